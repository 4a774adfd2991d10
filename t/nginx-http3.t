# HTTP/3, where nginx has it: each stream of QUIC has a connection of its own, with a log
# and a pool of its own, that ends before the client's does.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep);

use EdgespanTest;
use EdgespanTest::Certificates;
use EdgespanTest::Http3;
use EdgespanTest::NginxTraced;
use EdgespanTest::Tree;
use EdgespanTest::Upstream;

my $u = EdgespanTest::Upstream->new(respond => sub {
    my ($what) = $_[0] =~ m{\A\S+ \S*/(\w+) };
    return 'hang' if $what eq 'hang';
    # nginx notices that a stream is gone when it has something for it.
    return "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", ('x', [ delay => 0.1 ]) x 1000
        if $what eq 'partial';
    return [ delay => 1 ], EdgespanTest::Upstream::http_response() if $what eq 'slow';
    return "HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno" if $what eq 'busy';
    return EdgespanTest::Upstream::http_response();
});
my $certificates = EdgespanTest::Certificates->new;

my $n = EdgespanTest::NginxTraced->new(
    vars => { UP => $u->address, CERT => $certificates->dir },
    files => { 'html/big' => 'x' x 3_000_000 },
    http => <<'CONF');
proxy_http_version 1.1;
proxy_buffering off;
ssl_protocols TLSv1.3;
ssl_certificate %%CERT%%/server.pem;
ssl_certificate_key %%CERT%%/server.key;
server {
    # TCP, so that it shows when the server is there
    listen 127.0.0.1:%%PORT1%% quic;
    listen 127.0.0.1:%%PORT1%% ssl;
    large_client_header_buffers 2 1k;
    location / { return 200 h3; }
    location /big { root %%PREFIX%%/html; error_page 405 =200 /big; }
    location /proxy/ { proxy_pass http://%%UP%%; }
    location /discard { return 200 discarded; }
    location /all/ { auth_request /check; mirror /mirrored; proxy_pass http://%%UP%%;
        proxy_intercept_errors on; error_page 503 = @instead; }
    location = /check { internal; proxy_pass http://%%UP%%/allowed; }
    location = /mirrored { internal; proxy_pass http://%%UP%%/copy; }
    location /late/ { proxy_pass http://%%UP%%; proxy_intercept_errors on; error_page 503 @late; }
    location @late { rewrite ^ /hang break; proxy_pass http://%%UP%%; }
    location @instead { rewrite ^ /instead break; proxy_pass http://%%UP%%; }
    location /log/ { otel_error_events on; root %%PREFIX%%/html; }
}
server {
    listen 127.0.0.1:%%PORT2%% quic;
    listen 127.0.0.1:%%PORT2%% ssl;
    keepalive_requests 3;
    keepalive_timeout 2s;
    # a fake request looks the variable up for each handshake
    ssl_certificate %%CERT%%/server$otel_sampled.pem;
    ssl_certificate_key %%CERT%%/server.key;
    location / { return 200 h3; }
    location /proxy/ { proxy_pass http://%%UP%%; }
}
server {
    listen 127.0.0.1:%%PORT3%% quic;
    listen 127.0.0.1:%%PORT3%% ssl;
    otel_error_events on;
    ssl_certificate %%CERT%%/none$otel_trace_id.pem;
    ssl_certificate_key %%CERT%%/server.key;
}
CONF

plan skip_all => 'this nginx has no ngx_http_v3_module' unless $n->built_with('http_v3_module');
my $missing = EdgespanTest::Http3::missing();
plan skip_all => $missing if $missing;

$certificates->authority('ca');
$certificates->certificate('server', 'ca');
# Whatever the fake request says, the certificate is there.
for my $sampled (0, 1) {
    symlink 'server.pem', $certificates->file("server$sampled.pem") or die $!;
}
$n->start;

my $count = 0;
my $h3 = EdgespanTest::Http3->new($n->port(1));

sub recorded {
    my ($code, $records) = @_;
    $count += $records // 1;
    return $n->recorded($code, $records, 60);
}

# {phase => seconds} of the SERVER span; they add up.
sub phases {
    my ($span) = @_;
    my %phase = map { /^edgespan\.time\.(.*)/ ? ($1 => $span->{attrs}{$_}) : () }
        keys %{ $span->{attrs} };
    my $sum = 0;
    $sum += $_ for values %phase;
    my $took = ($span->{end} - $span->{start}) / 1e9;
    cmp_ok abs($sum - $took), '<', 2e-6, "the phases add up to $took s";
    note join ' ', map {"$_=$phase{$_}"} sort keys %phase;
    return \%phase;
}

# Runs the code and checks the SERVER span of its one request.
sub one {
    my ($what, $code, %want) = @_;
    my ($value, $record) = recorded($code);
    subtest $what => sub {
        my $s = $n->server_span($record, 60);
        is $s->{name}, delete $want{name} // 'GET /*', 'name';
        is $s->{status}{code}, delete $want{code} // 'UNSET', 'status';
        $want{'http.response.status_code'} = 200
            unless exists $want{'http.response.status_code'};
        $want{$_} //= undef for qw(edgespan.reason error.type);
        $want{'network.protocol.version'} = '3';
        $want{'url.scheme'} = 'https';
        is $s->{attrs}{$_}, $want{$_}, $_ for sort keys %want;
        phases($s);
    };
    return ($value, $record);
}

# The tree of a record's spans.
sub tree {
    my ($record, $text) = @_;
    my @spans = $n->trace($record, 1, 60);
    my ($expected, $got) = EdgespanTest::Tree::compare(EdgespanTest::Tree::parse($text), \@spans,
        {}, sub { $_[0] });
    is $got, $expected, 'the spans';
    note EdgespanTest::Tree::tree(\@spans);
    return;
}

# A field section of literals without an index, names and values shorter than 127.
sub qpack {
    my @pairs = @_;
    my $out = "\0\0";
    while (my ($name, $value) = splice @pairs, 0, 2) {
        my $length = length $name;
        $out .= $length < 7 ? chr(0x20 | $length) : "\x27" . chr($length - 7);
        $out .= $name . chr(length $value) . $value;
    }
    return $out;
}

one 'a request', sub { $h3->get('/x?y=1', host => 'example.com:8443') },
    'url.path' => '/x', 'url.query' => 'y=1', 'server.address' => 'example.com',
    'server.port' => 8443, 'client.address' => '127.0.0.1', 'network.peer.address' => '127.0.0.1',
    'network.peer.port' => $h3->port, 'http.response.body.size' => 2;

one 'the port of https', sub { $h3->get('/', host => 'example.com') },
    'server.address' => 'example.com', 'server.port' => 443;

one 'Host', sub {
        my $stream = $h3->send_headers([ ':method', 'GET' ], [ ':scheme', 'https' ],
            [ ':path', '/' ], [ 'host', 'example.org' ]);
        $h3->await('end', $stream);
    }, 'server.address' => 'example.org', 'server.port' => 443;

subtest 'the caller\'s trace goes on to the upstream' => sub {
    my ($trace, $caller) = ('0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331');
    my (undef, $record) = recorded(sub {
        $h3->get('/proxy/x', headers => [ [ 'traceparent', "00-$trace-$caller-01" ] ]) });
    my $server = $n->server_span($record, 60);
    is $server->{trace_id}, $trace, 'trace';
    is $server->{parent_span_id}, $caller, 'parent';
    my ($client) = $n->collector->spans(kind => 'CLIENT', trace_id => $trace);
    is $client->{parent_span_id}, $server->{span_id}, 'the CLIENT span is below';
    my ($sent) = EdgespanTest::Upstream::header_values(($u->requests)[-1], 'traceparent');
    is $sent, "00-$trace-$client->{span_id}-01", 'which the upstream got';
};

subtest 'many streams of one connection are a trace each' => sub {
    my (undef, @records) = recorded(sub {
        my @streams = map { $h3->request('/proxy/x', host => "a$_") } 1 .. 20;
        $h3->await('end', $_) for @streams;
    }, 20);
    my (%host, %trace);
    for my $record (@records) {
        my $s = $n->server_span($record, 60);
        $host{ $s->{attrs}{'server.address'} } = $trace{ $s->{trace_id} } = 1;
        my @clients = grep { $_->{kind} eq 'CLIENT' } $n->trace($record, 1, 60);
        is scalar @clients, 1, 'a CLIENT span';
    }
    is scalar(keys %host), 20, 'each with its own :authority';
    is scalar(keys %trace), 20, 'and trace';
};

subtest 'auth_request, mirror and error_page' => sub {
    my (undef, $record) = recorded(sub { $h3->get('/all/busy') });
    tree($record, <<'TREE');
SERVER GET /all/* 200
  INTERNAL subrequest /check 200
    CLIENT GET 200
  CLIENT GET 503 error=503
  INTERNAL subrequest /mirrored 200 background=1
    CLIENT GET 200
  CLIENT GET 200
TREE
};

subtest 'lines of the error log have the ids, and are events' => sub {
    my $mark = $n->log_mark;
    my @streams;
    my (undef, @records) = recorded(sub {
        @streams = map { $h3->request("/log/none$_") } 1 .. 3;
        $h3->await('end', $_) for @streams;
    }, 3);
    for my $record (@records) {
        my $s = $n->server_span($record, 60);
        my ($file) = $record->{uri} =~ m{(none\d)};
        like $n->wait_log(qr/open\(\) .*$file/, 60, $mark),
            qr/, trace_id: $record->{trace}, span_id: $record->{span}$/, 'ids';
        my @events = grep { $_->{name} eq 'edgespan.log' } @{ $s->{events} };
        is scalar @events, 1, 'an event';
        like $events[0]{attrs}{'log.message'}, qr/\Aopen\(\) .*$file" failed [^,]*\z/, 'its message';
    }
};

my (undef, $slow) = one 'a header that arrives slowly', sub {
        my $section = qpack(':method', 'GET', ':scheme', 'https', ':authority', 'slow', ':path', '/');
        my $frame = "\1" . chr(length $section) . $section;
        my $stream = $h3->raw(undef, substr $frame, 0, 20);
        sleep 1;
        $h3->raw($stream, substr($frame, 20), 1);
        $h3->await('end', $stream);
    }, 'server.address' => 'slow';
cmp_ok $n->server_span($slow, 60)->{attrs}{'edgespan.time.client_upload'}, '>=', 0.5, 'which shows';

# [with what, what the client does, the phase that shows it, sizes of both bodies]
for my $case ([ 'its body', sub {
        my $stream = $h3->request('/proxy/post', method => 'POST', end => 0, body => 'half');
        sleep 1;
        $h3->tell('data', stream => $stream, body => 'half', end => 1);
        return $stream;
    }, 'client_upload', 8, 3 ], [ 'the response', sub {
        my $stream = $h3->request('/big');
        $h3->tell('pause', seconds => 1);
        return $stream;
    }, 'client_download', undef, 3_000_000 ]) {
    my ($what, $do, $slow, @sizes) = @$case;
    subtest "a client that is slow with $what" => sub {
        my (undef, $record) = recorded(sub { $h3->await('end', $do->()) });
        my $s = $n->server_span($record, 60);
        my $phase = phases($s);
        my ($most) = sort { $phase->{$b} <=> $phase->{$a} } keys %$phase;
        is $most, $slow, 'the slow one';
        cmp_ok $phase->{$most}, '>=', 0.5, 'as slow as it was';
        is_deeply [ map { $s->{attrs}{"http.$_.body.size"} } qw(request response) ], \@sizes, 'sizes';
    };
}

one 'a body with its length', sub {
        $h3->get('/proxy/x', method => 'POST', body => 'x' x 50_000,
            headers => [ [ 'content-length', 50_000 ] ]) },
    name => 'POST /proxy/*', 'http.request.body.size' => 50_000;

one 'a body that nobody wants', sub {
        $h3->get('/discard', method => 'POST', body => 'x' x 50_000,
            headers => [ [ 'content-length', 50_000 ] ]) },
    name => 'POST /discard*', 'http.request.body.size' => 50_000;

# Requests that are none, or not quite.
one 'no :authority', sub {
        my $stream = $h3->send_headers([ ':method', 'GET' ], [ ':scheme', 'https' ],
            [ ':path', '/' ]);
        $h3->await('end', $stream);
    }, name => 'GET', 'http.response.status_code' => 400, 'server.address' => undef;
# nginx answers, but resets the stream first.
one 'a field that is too large', sub {
        $h3->await('reset', $h3->request('/', headers => [ [ 'x', 'x' x 9000 ] ])) },
    name => 'GET', 'http.response.status_code' => 400;

subtest 'a handshake that fails is no request' => sub {
    my $mark = $n->log_mark;
    EdgespanTest::Http3->new($n->port(3), 'closed');
    ok $n->wait_log(qr{cannot load certificate .*/none[0-9a-f]{32}\.pem}, 60, $mark), 'it failed';
    is scalar(my @r = $n->records), $count, 'nothing logged';
};

# The client goes: [what it does, the path, ...]
for my $case ([ 'a stream is reset before the response', '/proxy/hang', 'leave', undef ],
    [ 'a stream is reset in the middle of the response', '/proxy/partial', 'leave', 200 ],
    [ 'a stream is reset while another answer is looked for', '/late/busy', 'leave', undef ],
    [ 'the connection closes before the response', '/proxy/hang', 'close', undef ],
    [ 'the connection closes while another answer is looked for', '/late/busy', 'close', undef ],
    [ 'the connection closes in the middle of the response', '/proxy/partial', 'close', 200 ]) {
    my ($what, $path, $do, $status) = @$case;
    my $c = $do eq 'close' ? EdgespanTest::Http3->new($n->port(1)) : $h3;
    one $what, sub {
        my $before = $u->requests;
        my $stream = $c->request($path);
        $u->wait_requests($before + ($path =~ /late/ ? 2 : 1), 60);
        $c->await('data', $stream) if $status;
        $c->tell($do, stream => $stream);
    }, name => 'GET ' . $path =~ s/\w+\z/*/r, 'http.response.status_code' => $status,
        'edgespan.reason' => 'client_closed_request';
}

one 'the connection goes on', sub { $h3->get('/') };

one 'the client goes without a word', sub {
    my $c = EdgespanTest::Http3->new($n->port(2));
    my $before = $u->requests;
    $c->request('/proxy/hang');
    $u->wait_requests($before + 1, 60);
    $c->end;
}, name => 'GET /proxy/*', 'http.response.status_code' => undef,
    'edgespan.reason' => 'client_closed_request';

subtest 'a connection of three requests' => sub {
    my $c = EdgespanTest::Http3->new($n->port(2));
    recorded(sub { is $c->get('/'), 200, 'a request' }) for 1 .. 3;
    $c->await('closed');
    is scalar(my @r = $n->records), $count, 'and no other';
};

subtest 'a reload with requests under way' => sub {
    my $before = $u->requests;
    my $c = EdgespanTest::Http3->new($n->port(2));
    my (undef, @records) = recorded(sub {
        $c->request('/proxy/slow') for 1 .. 3;
        $u->wait_requests($before + 3, 60);
        $n->reload(undef, timeout => 60);
    }, 3);
    # Its client's packets may go to the new worker, which does not know them.
    for my $record (@records) {
        my $attrs = $n->server_span($record, 60)->{attrs};
        like join(' ', grep {defined} @$attrs{qw(http.response.status_code edgespan.reason)}),
            qr/\A(?:200|client_closed_request)\z/, 'what was begun ends';
    }
    $_->end for $h3, $c;
    # It waits for clients that have gone for as long as a connection may be idle.
    wait_for(sub { $n->worker_pids(shutting_down => 1) == 1 }, 60, 'the old worker to end');
    $h3 = EdgespanTest::Http3->new($n->port(1));
    one 'the new worker serves', sub { $h3->get('/') };
};

subtest 'spans in all' => sub {
    is scalar(my @r = $n->records), $count, 'requests that nginx logged';
    my @spans = $n->collector->wait_spans($count, 60, kind => 'SERVER');
    is scalar @spans, $count, 'one SERVER span for each';
    $h3->tell('close');
};

$n->lint;
$n->finish;
done_testing;
