# CLIENT spans: one for each way to an upstream on which a try began, with what
# the upstream saw and what nginx knows of each try.

use strict;
use warnings;

use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(sleep time);

use EdgespanTest;
use EdgespanTest::NginxTraced;
use EdgespanTest::Upstream;

# An upstream does what the path tells it.
sub respond {
    my ($bytes) = @_;
    my ($path) = $bytes =~ m{\A\S+ (\S+)};
    my @delay = $path =~ /slow/ ? [ delay => 0.2 ] : ();
    return 'hang' if $path =~ /hang/;
    return 'reset' if $path =~ m{/reset};
    return @delay, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort",
        $path =~ /cutreset/ ? ([ delay => 0.05 ], 'reset') : 'close'
        if $path =~ /cut-length|cutreset/;
    return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        'close' if $path =~ /cut-chunked/;
    return "HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n" . 'x' x 5000,
        'hang' if $path =~ /endless/;
    return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n"
        . "Connection: upgrade\r\n\r\nhello", [ delay => 0.1 ], 'close'
        if $path =~ /upgrade/;
    my $status = $path =~ m{status/(\d+)} ? $1 : 200;
    my $body = $bytes =~ /^HEAD / || $status =~ /^(?:204|304)$/ ? '' : 'ok';
    my $length = $status == 204 ? '' : "Content-Length: 2\r\n";
    return @delay, "HTTP/1.1 $status Whatever\r\n$length\r\n$body";
}

my %u = map { $_ => EdgespanTest::Upstream->new(respond => \&respond) } 1 .. 4;
my $dir = tmpdir();
my $unix = EdgespanTest::Upstream->new(unix => "$dir/up.sock",
    respond => \&respond);
my $tls_port = free_port();
my ($dead1, $dead2) = (free_port(), free_port());

my $n = EdgespanTest::NginxTraced->new(
    vars => { (map {("UP$_" => $u{$_}->address)} 1 .. 4),
        UNIX => $unix->address, TLS => $tls_port,
        DEAD1 => "127.0.0.1:$dead1", DEAD2 => "127.0.0.1:$dead2" },
    http => <<'CONF');
proxy_http_version 1.1;
proxy_set_header Connection "";
upstream pool { server %%UP1%%; keepalive 4; }
upstream zoned { zone zoned 64k; least_conn; server %%UP1%%; server %%UP1%% backup; }
upstream dead { server %%DEAD1%% fail_timeout=60s; server %%DEAD2%% fail_timeout=60s; }
upstream sock { server %%UNIX%%; }
server {
    listen 127.0.0.1:%%PORT1%%;
    location / { return 200 "static"; }
    location = /file { alias %%PREFIX%%/html/index.html; }
    location /direct/ { proxy_pass http://%%UP1%%; }
    location /uri/ { proxy_pass http://%%UP1%%/other/; }
    location /pool/ { proxy_pass http://pool; }
    location /zoned/ { proxy_pass http://zoned; }
    location /unbuffered/ { proxy_buffering off; proxy_pass http://pool; }
    location /refused/ { proxy_pass http://%%DEAD1%%; }
    location /timeout/ { proxy_read_timeout 200ms; proxy_pass http://pool/hang; }
    location /dead/ { proxy_pass http://dead; }
    location /sock/ { proxy_pass http://sock; }
    # nothing else names UP4, so nginx knows no upstream{} of it
    location /variable/ { set $to %%UP4%%; proxy_pass http://$to; }
    location /named/ { set $to pool; proxy_pass http://$to; }
    location /resolved/ { otel_trace_context extract; set $to %%UP4%%; proxy_pass http://$to; }
    location /upgrade/ { proxy_set_header Upgrade x; proxy_set_header Connection upgrade;
        proxy_pass http://pool; }
    location /method/ { proxy_method PUT; proxy_pass http://pool; }
    location /tls/ { proxy_pass https://127.0.0.1:%%TLS%%; }
    location /tlsbad/ { proxy_ssl_verify on; proxy_ssl_name other;
        proxy_ssl_trusted_certificate %%PREFIX%%/cert.pem; proxy_pass https://127.0.0.1:%%TLS%%; }
}
server {
    listen 127.0.0.1:%%TLS%% ssl;
    ssl_certificate %%PREFIX%%/cert.pem;
    ssl_certificate_key %%PREFIX%%/key.pem;
    otel_trace off;
    access_log off;
    location / { return 200 "$http_traceparent"; }
}
CONF
my $prefix = $n->prefix;
system("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost "
    . "-keyout $prefix/key.pem -out $prefix/cert.pem >$prefix/x.log 2>&1") == 0
    or die slurp("$prefix/x.log");
$n->start;
my $port = $n->port(1);

# Makes a request and returns its SERVER span, its CLIENT span, the record and
# the answer, after what holds for each of them.
sub exchange {
    my ($path, %opt) = @_;
    my $code = delete $opt{code} // sub { http_get($port, $path, %opt) };
    my ($answer, $record) = $n->recorded($code);
    my @spans = $n->trace($record, 2);
    my ($server) = grep { $_->{kind} eq 'SERVER' } @spans;
    my ($client) = grep { $_->{kind} eq 'CLIENT' } @spans;
    is @spans, 2, 'two spans';
    is $client->{parent_span_id}, $server->{span_id}, 'CLIENT below SERVER';
    cmp_ok $client->{start}, '>=', $server->{start}, 'begins later';
    cmp_ok $client->{end}, '<=', $server->{end}, 'ends earlier';
    return ($server, $client, $record, $answer);
}

sub attrs {
    my ($span, %want) = @_;
    my $code = delete $want{status} // 'UNSET';
    is $span->{status}{code}, $code, "$span->{kind}: status";
    $want{'error.type'} //= undef;
    is $span->{attrs}{$_}, $want{$_}, "$span->{kind}: $_" for sort keys %want;
    return;
}

sub sent_id {
    my ($upstream) = @_;
    my ($tp) = EdgespanTest::Upstream::header_values(
        ($upstream->requests)[-1], 'traceparent');
    return (split /-/, $tp)[2];
}

subtest 'a request that is passed on' => sub {
    my ($server, $client) = exchange('/direct/a?b=1&sig=secret',
        headers => [ [ Host => 'edge.example' ] ]);
    is $client->{span_id}, sent_id($u{1}), 'its id is what the upstream saw';
    is $client->{name}, 'GET', 'name';
    attrs($client, 'http.request.method' => 'GET',
        'http.response.status_code' => 200,
        'server.address' => '127.0.0.1', 'server.port' => $u{1}->port,
        'network.peer.address' => '127.0.0.1',
        'network.peer.port' => $u{1}->port, 'url.full' => 'http://'
            . $u{1}->address . '/direct/a?b=1&sig=REDACTED');
    attrs($server, 'http.response.status_code' => 200);
    is_deeply $client->{events}, [], 'one try needs no event';
};

subtest 'url.full is what was sent' => sub {
    my (undef, $client) = exchange('/uri/x%20y?z');
    is $client->{attrs}{'url.full'},
        'http://' . $u{1}->address . '/other/x%20y?z', 'another URI';
    (undef, $client) = exchange('/pool/x');
    is $client->{attrs}{'url.full'}, 'http://pool/pool/x', 'an upstream{}';
    is $client->{attrs}{'server.address'}, 'pool', 'server.address';
    is $client->{attrs}{'network.peer.port'}, $u{1}->port, 'the peer';
};

subtest 'proxy_method: the method that was sent' => sub {
    my ($server, $client) = exchange('/method/');
    like +($u{1}->requests)[-1], qr/^PUT /, 'the upstream saw PUT';
    is $client->{attrs}{'http.request.method'}, 'PUT', 'CLIENT';
    is $server->{attrs}{'http.request.method'}, 'GET', 'SERVER';
};

subtest 'a slow upstream: the time is its own' => sub {
    my (undef, $client) = exchange('/pool/slow');
    my $took = ($client->{end} - $client->{start}) / 1e6;
    cmp_ok $took, '>=', 199, "$took ms";
    cmp_ok $took, '<', 3000, 'no more';
};

subtest '4xx is an error of the CLIENT span only' => sub {
    my ($server, $client) = exchange('/pool/status/404');
    attrs($client, status => 'ERROR', 'error.type' => 404,
        'http.response.status_code' => 404);
    attrs($server, 'http.response.status_code' => 404);
};

subtest '5xx is an error of both' => sub {
    attrs($_, status => 'ERROR', 'error.type' => 503,
        'http.response.status_code' => 503)
        for (exchange('/pool/status/503'))[ 0, 1 ];
};

for my $status (204, 304) {
    subtest "a response without a body ($status)" => sub {
        attrs($_, 'http.response.status_code' => $status)
            for (exchange("/pool/status/$status"))[ 0, 1 ];
    };
}

subtest 'HEAD' => sub {
    attrs($_, 'http.response.status_code' => 200)
        for (exchange('/pool/x', method => 'HEAD'))[ 0, 1 ];
};

subtest 'connect failure' => sub {
    my ($server, $client) = exchange('/refused/');
    attrs($client, status => 'ERROR', 'error.type' => 'connection_failed',
        'http.response.status_code' => undef,
        'network.peer.port' => $dead1);
    attrs($server, status => 'ERROR', 'error.type' => 502,
        'http.response.status_code' => 502);
};

subtest 'timeout' => sub {
    my ($server, $client) = exchange('/timeout/');
    attrs($client, status => 'ERROR', 'error.type' => 'timeout',
        'http.response.status_code' => undef);
    attrs($server, status => 'ERROR', 'error.type' => 504,
        'http.response.status_code' => 504);
    cmp_ok $client->{end} - $client->{start}, '>=', 195e6, 'took its time';
};

subtest 'the upstream closes without a response' => sub {
    my ($server, $client) = exchange('/direct/reset');
    attrs($client, status => 'ERROR', 'error.type' => 'no_response',
        'http.response.status_code' => undef);
    attrs($server, status => 'ERROR', 'error.type' => 502);
};

subtest 'none is live' => sub {
    # All of them fail first.
    $n->recorded(sub { http_get($port, '/dead/') });
    my ($server, $client) = exchange('/dead/');
    $n->wait_log(qr/no live upstreams/);
    attrs($server, status => 'ERROR', 'error.type' => 502);
    is $client->{status}{code}, 'ERROR', 'CLIENT: status';
    is $client->{attrs}{'network.peer.address'}, undef,
        'the name of the upstream{} is no address of a peer';
    is $client->{attrs}{'http.response.status_code'}, undef, 'no response';
};

subtest 'keepalive: a connection that is used again' => sub {
    my @ids = map { (exchange('/pool/k'))[1]{span_id} } 1 .. 3;
    my @conn = ($u{1}->connections)[ -3 .. -1 ];
    is $conn[0], $conn[2], 'one connection';
    isnt $ids[0], $ids[1], 'a span each';
    is $ids[2], sent_id($u{1}), 'with its id';
};

subtest 'zone, least_conn, backup' => sub {
    attrs((exchange('/zoned/'))[1], 'http.response.status_code' => 200,
        'network.peer.port' => $u{1}->port);
};

subtest 'a unix socket' => sub {
    my (undef, $client) = exchange('/sock/');
    attrs($client, 'http.response.status_code' => 200,
        'network.peer.address' => "$dir/up.sock",
        'network.peer.port' => undef, 'server.address' => 'sock');
};

subtest 'resolved at run time: nginx\'s own times' => sub {
    my (undef, $client, $record) = exchange('/variable/slow');
    is $client->{span_id}, sent_id($u{4}), 'id';
    attrs($client, 'http.response.status_code' => 200,
        'network.peer.port' => $u{4}->port, 'server.address' => '127.0.0.1',
        'server.port' => $u{4}->port,
        'url.full' => 'http://' . $u{4}->address . '/variable/slow');
    my $took = ($client->{end} - $client->{start}) / 1e6;
    cmp_ok $took, '>=', 190, "$took ms: what the upstream takes";
    cmp_ok $took, '<=', 1000 * $record->{time} + 100, 'not more than the request';
    (undef, $client) = exchange('/named/x');
    is $client->{attrs}{'server.address'}, 'pool', 'a variable names upstream{}';
    (undef, $client) = exchange('/resolved/x');
    ok $client, 'also where nothing is injected';
};

for my $how (qw(direct unbuffered variable)) {
    for my $cut (qw(cut-length cut-chunked cutreset)) {
        subtest "$how: a response that is cut short ($cut)" => sub {
            my ($server, $client, $record) = exchange("/$how/$cut");
            attrs($server, status => 'ERROR',
                'http.response.status_code' => 200,
                'error.type' => 'upstream_response_truncated',
                'edgespan.reason' => undef);
            is $client->{status}{code}, 'ERROR', 'CLIENT: status';
            is $client->{attrs}{'http.response.status_code'}, 200, '200 it was';
        };
    }
}

# A client that goes after what it has read matches.
sub leaving {
    my ($path, $until) = @_;
    return sub {
        my $before = $u{1}->requests;
        my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
            PeerPort => $port) or die $!;
        print {$sock} "GET $path HTTP/1.1\r\nHost: x\r\n\r\n";
        $sock->flush;
        $u{1}->wait_requests($before + 1);
        $sock->blocking(0);
        my $got = '';
        wait_for(sub { sysread $sock, $got, 4096, length $got;
            $got =~ $until }, 5, 'the response');
        setsockopt $sock, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
        close $sock;
    };
}

subtest 'the client leaves in the middle of the response' => sub {
    my ($server, $client) = exchange('', code =>
        leaving('/unbuffered/endless', qr/xxx/));
    attrs($server, 'http.response.status_code' => 200,
        'edgespan.reason' => 'client_closed_request');
    attrs($client, 'http.response.status_code' => 200);
};

subtest 'the client leaves before the response' => sub {
    my ($server, $client, $record) = exchange('', code =>
        leaving('/pool/hang', qr//));
    is $record->{status}, 499, 'nginx calls it 499';
    attrs($server, 'http.response.status_code' => undef,
        'edgespan.reason' => 'client_closed_request');
    attrs($client, 'http.response.status_code' => undef);
};

subtest 'an upgraded connection that ends is complete' => sub {
    my ($server, $client, $record) = exchange('/upgrade/',
        headers => [ [ Upgrade => 'x' ], [ Connection => 'upgrade' ] ]);
    is $record->{status}, 101, 'upgraded';
    attrs($_, 'http.response.status_code' => 101, 'edgespan.reason' => undef)
        for $server, $client;
};

subtest 'https' => sub {
    my (undef, $client, undef, $answer) = exchange('/tls/x');
    is +(split /-/, $answer->{body})[2], $client->{span_id}, 'id';
    attrs($client, 'http.response.status_code' => 200,
        'server.port' => $tls_port,
        'url.full' => "https://127.0.0.1:$tls_port/tls/x");
    my ($server);
    ($server, $client) = exchange('/tlsbad/x');
    attrs($server, status => 'ERROR', 'error.type' => 502);
    is $client->{status}{code}, 'ERROR', 'another name in the certificate';
};

subtest 'no upstream, no CLIENT span' => sub {
    for my $path ('/', '/file') {
        my (undef, $record) = $n->recorded(sub { http_get($port, $path) });
        $n->server_span($record);
        is scalar(my @all = $n->trace($record)), 1, $path;
    }
};

$n->lint;
$n->finish;
done_testing;
