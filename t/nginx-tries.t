# Tries of an upstream: each is a CLIENT span of its own, whose id is what that
# upstream was sent, with exact times; one span with events where the id cannot
# be changed.

use strict;
use warnings;

use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(time);

use EdgespanTest;
use EdgespanTest::NginxTraced;
use EdgespanTest::Upstream;

my @PROTOCOLS = qw(http fastcgi scgi uwsgi);
my $FORMATS = 'tracecontext b3 b3multi jaeger xray';

# The first to be asked breaks what it was sent, the second fails, too, where
# the path says so.
my (%first, %second);
for my $protocol (@PROTOCOLS) {
    my %with = (protocol => $protocol);
    $first{$protocol} = EdgespanTest::Upstream->new(%with,
        respond => sub { 'reset' });
    $second{$protocol} = EdgespanTest::Upstream->new(%with);
}
sub text { return "HTTP/1.1 $_[0] X\r\nContent-Length: 2\r\n\r\nok" }
my $busy = EdgespanTest::Upstream->new(respond => sub { text(503) });
my $slow = EdgespanTest::Upstream->new(respond => sub {
    my ($head, $body) = text(200) =~ /(.*)(ok)/s;
    return [ delay => 0.2 ], $head, [ delay => 0.6 ], $body;
});
my $fickle = EdgespanTest::Upstream->new(respond => sub {
    return $_[0] =~ m{ /kept/break} ? 'reset' : text(200) });
my $hang = EdgespanTest::Upstream->new(respond => sub { 'hang' });
my $half = EdgespanTest::Upstream->new(respond => sub {
    return "HTTP/1.1 200 OK\r\nX-Half: ", 'hang' });
my $dead = '127.0.0.1:' . free_port();

my $n = EdgespanTest::NginxTraced->new(
    vars => { DEAD => $dead, FORMATS => $FORMATS, BUSY => $busy->address,
        SLOW => $slow->address, FICKLE => $fickle->address,
        HANG => $hang->address, HALF => $half->address,
        (map { (uc "${_}1" => $first{$_}->address,
            uc "${_}2" => $second{$_}->address) } @PROTOCOLS) },
    http => <<'CONF');
proxy_http_version 1.1;
proxy_set_header Connection "";
log_format ids '$request_uri $otel_upstream_span_id';
access_log %%PREFIX%%/ids.log ids;
upstream plain   { server %%HTTP1%% max_fails=0; server %%HTTP2%% backup; }
upstream tls     { server 127.0.0.1:%%PORT2%% max_fails=0; server 127.0.0.1:%%PORT3%% backup; }
upstream fastcgi { server %%FASTCGI1%% max_fails=0; server %%FASTCGI2%% backup; }
upstream scgi    { server %%SCGI1%% max_fails=0; server %%SCGI2%% backup; }
upstream uwsgi   { server %%UWSGI1%% max_fails=0; server %%UWSGI2%% backup; }
upstream three   { least_conn; server %%BUSY%% max_fails=0 weight=100; server %%DEAD%% max_fails=0;
    server %%HTTP2%% backup; }
upstream refused { server %%DEAD%% max_fails=0; server %%HTTP2%% backup; }
upstream kept    { server %%FICKLE%% max_fails=0; keepalive 4; }
upstream slowtls { server 127.0.0.1:%%PORT4%%; keepalive 4; }
upstream hanging { server %%HANG%% max_fails=0; server %%HTTP2%% backup; }
upstream half    { server %%HALF%% max_fails=0; server %%HTTP2%% backup; }
server {
    listen 127.0.0.1:%%PORT1%%;
    otel_propagators %%FORMATS%%;
    location /plain   { proxy_pass http://plain; }
    location /tls     { proxy_next_upstream error http_502; proxy_pass https://tls; }
    location /fastcgi { fastcgi_pass fastcgi; fastcgi_param URI $request_uri; fastcgi_next_upstream error non_idempotent; }
    location /scgi    { scgi_pass scgi; scgi_param URI $request_uri; scgi_next_upstream error non_idempotent; }
    location /uwsgi   { uwsgi_pass uwsgi; uwsgi_param URI $request_uri; uwsgi_param CONTENT_LENGTH $content_length; uwsgi_next_upstream error non_idempotent; }
    location /three   { proxy_next_upstream error http_503; proxy_pass http://three; }
    location /literal { proxy_pass_request_headers off; proxy_set_header traceparent $otel_traceparent;
        proxy_set_header X-Up $otel_upstream_span_id; proxy_pass http://plain; }
    location /body    { proxy_next_upstream error non_idempotent; proxy_set_header X-Up $otel_upstream_span_id;
        proxy_set_body $otel_upstream_span_id; proxy_pass http://plain; }
    location /post    { proxy_next_upstream error non_idempotent; client_body_buffer_size 1k; proxy_pass http://plain; }
    location /stream  { proxy_request_buffering off; proxy_pass http://refused; }
    location /nospan  { otel_upstream_span off; proxy_pass http://plain; }
    location /never   { otel_sample_rate 0; proxy_pass http://plain; }
    location /kept    { proxy_pass http://kept; }
    location /slow    { proxy_pass http://%%SLOW%%; }
    location /slowtls { proxy_pass https://slowtls; }
    location /noreuse { proxy_ssl_session_reuse off; proxy_pass https://127.0.0.1:%%PORT4%%; }
    location /tlsbad  { proxy_ssl_verify on; proxy_ssl_name other;
        proxy_ssl_trusted_certificate %%PREFIX%%/cert.pem; proxy_pass https://127.0.0.1:%%PORT4%%; }
    location /hanging { proxy_read_timeout 2s; proxy_next_upstream timeout; proxy_pass http://hanging; }
    location /half    { proxy_read_timeout 2s; proxy_next_upstream timeout; proxy_pass http://half; }
    location /refused { proxy_pass http://refused; }
}
server {
    listen 127.0.0.1:%%PORT5%%;
    location / { proxy_set_header traceparent ""; proxy_pass http://plain; }
}
server {
    listen 127.0.0.1:%%PORT2%% ssl; listen 127.0.0.1:%%PORT3%% ssl; listen 127.0.0.1:%%PORT4%% ssl;
    ssl_certificate %%PREFIX%%/cert.pem;
    ssl_certificate_key %%PREFIX%%/key.pem;
    otel_trace off;
    access_log off;
    set $to %%HTTP1%%;
    if ($server_port = %%PORT3%%) { set $to %%HTTP2%%; }
    if ($server_port = %%PORT4%%) { set $to %%SLOW%%; }
    location / { proxy_buffering off; proxy_pass http://$to; }
}
CONF
my $prefix = $n->prefix;
system("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost "
    . "-keyout $prefix/key.pem -out $prefix/cert.pem >$prefix/x.log 2>&1") == 0
    or die slurp("$prefix/x.log");
$n->start;

# Makes a request and returns its SERVER span, its CLIENT spans by their start,
# the record and the answer.
sub exchange {
    my ($path, $tries, %opt) = @_;
    my $port = delete $opt{port} // $n->port(1);
    my ($answer, $record) = $n->recorded(sub { http_get($port, $path, %opt) });
    my @spans = $n->trace($record, 1 + $tries, 10);
    my ($server) = grep { $_->{kind} eq 'SERVER' } @spans;
    my @client = sort { $a->{start} <=> $b->{start} }
        grep { $_->{kind} eq 'CLIENT' } @spans;
    is @client, $tries, "$path: $tries CLIENT spans";
    is $_->{parent_span_id}, $server->{span_id}, 'below SERVER' for @client;
    cmp_ok $client[$_]{start}, '>=', $client[ $_ - 1 ]{end},
        'one after the other' for 1 .. $#client;
    is_deeply [ map { $_->{attrs}{'http.request.resend_count'} } @client ],
        [ undef, 1 .. $#client ], 'resend_count';
    return ($server, \@client, $record, $answer);
}

sub logged_id { return (slurp("$prefix/ids.log") =~ /^\Q$_[0]\E (\S+)$/mg)[-1] }

# What an upstream got last, and how often each of the ids is in it.
sub got { return ($_[0]->requests)[-1] // '' }
sub count_of { my ($bytes, $id) = @_; return scalar(() = $bytes =~ /$id/g) }

for my $protocol (qw(plain tls fastcgi scgi uwsgi)) {
    my $wire = exists $first{$protocol} ? $protocol : 'http';
    # A body in memory, in a file, none.
    for my $body (undef, 'abc' x 10, 'x' x 100_000) {
        next if defined $body && $protocol =~ /plain|tls/;
        my $what = defined $body ? length $body : 'no';
        subtest "$protocol: each upstream gets the id of its span ($what body)"
            => sub {
            my ($server, $client, undef, $answer) = exchange("/$protocol", 2,
                defined $body ? (method => 'POST', body => $body) : ());
            like $answer->{body}, qr/^ok/, 'answered';
            my @ids = map { $_->{span_id} } @$client;
            my @got = (got($first{$wire}), got($second{$wire}));
            for my $i (0, 1) {
                is count_of($got[$i], $ids[$i]), 5, "try $i: in all five formats";
                is count_of($got[$i], $ids[ 1 - $i ]), 0, 'and no other';
            }
            is length $got[0], length $got[1], 'all else is the same';
            ok index($got[1], $body) > 0, 'the body, too'
                if defined $body && $protocol ne 'fastcgi';
            is $client->[0]{status}{code}, 'ERROR', 'the first failed';
            is $client->[0]{attrs}{'error.type'},
                $protocol eq 'tls' ? 502 : 'no_response', 'why';
            is $client->[1]{status}{code}, 'UNSET', 'the second did not';
            is $client->[1]{attrs}{'http.response.status_code'}, 200, 'status';
            is $server->{status}{code}, 'UNSET', 'nor the request';
            is_deeply [ map { @{ $_->{events} } } @$client ], [], 'no events';
            is logged_id("/$protocol"), $ids[1],
                '$otel_upstream_span_id tells the last';
        };
    }
}

subtest 'three tries: a status, refused, answered' => sub {
    my (undef, $client) = exchange('/three', 3);
    is_deeply [ map { $_->{attrs}{'network.peer.port'} } @$client ],
        [ $busy->port, $dead =~ /:(\d+)/, $second{http}->port ], 'peers';
    is_deeply [ map { $_->{attrs}{'http.response.status_code'} } @$client ],
        [ 503, undef, 200 ], 'status';
    is_deeply [ map { $_->{attrs}{'error.type'} } @$client ],
        [ 503, 'connection_failed', undef ], 'error.type';
    is count_of(got($busy), $client->[0]{span_id}), 5, 'the first saw its id';
    is count_of(got($second{http}), $client->[2]{span_id}), 5, 'so did the last';
};

subtest 'headers that the configuration writes' => sub {
    my (undef, $client) = exchange('/literal', 2);
    my $i = 0;
    for my $bytes (got($first{http}), got($second{http})) {
        my $id = $client->[ $i++ ]{span_id};
        like $bytes, qr/^traceparent: 00-[0-9a-f]{32}-$id-03\r$/m, 'traceparent';
        like $bytes, qr/^X-Up: $id\r$/m, '$otel_upstream_span_id';
    }
};

subtest 'a body is never touched' => sub {
    my (undef, $client) = exchange('/body', 2, method => 'POST', body => 'x');
    my ($one, $two) = map { $_->{span_id} } @$client;
    my ($head, $body) = split /\r\n\r\n/, got($second{http});
    is $body, $one, 'it was made for the first try';
    is count_of($head, $two), 6, 'the header says which this is';
    is count_of($head, $one), 0, 'only';
};

subtest 'a body in a file is sent again' => sub {
    my $body = join ',', 1 .. 20_000;
    exchange('/post', 2, method => 'POST', body => $body);
    is +(split /\r\n\r\n/, got($second{http}), 2)[1], $body, 'as it was';
};

subtest 'proxy_request_buffering off, chunked' => sub {
    my $before = $second{http}->requests;
    my (undef, $record) = $n->recorded(sub {
        my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
            PeerPort => $n->port(1)) or die $!;
        $sock->autoflush(1);
        print {$sock} "POST /stream HTTP/1.1\r\nHost: a\r\n"
            . "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
            . "5\r\nhello\r\n";
        $n->wait_log(qr{connect\(\) failed.*"POST /stream});
        print {$sock} "6\r\n world\r\n0\r\n\r\n";
        local $/;
        my $answer = <$sock>;
    });
    my ($got) = ($second{http}->wait_requests($before + 1))[-1];
    my ($one, $two) = sort { $a->{start} <=> $b->{start} }
        grep { $_->{kind} eq 'CLIENT' } $n->trace($record, 3);
    is count_of($got, $two->{span_id}), 5, 'the second id';
    is $one->{attrs}{'error.type'}, 'connection_failed', 'the first failed';
    like $got, qr/^Transfer-Encoding: chunked\r$/m, 'chunked';
    is join('', (split /\r\n\r\n/, $got, 2)[1] =~ /^[1-9a-f]+\r\n(.*)\r$/mg),
        'hello world', 'the body';
};

subtest 'otel_upstream_span off, not sampled: nothing is written over' => sub {
    for my $path ('/nospan', '/never') {
        my (undef, $record) = $n->recorded(sub { http_get($n->port(1), $path) });
        my ($one, $two) = map { got($_) =~ /^traceparent: (\S+)/m }
            $first{http}, $second{http};
        is $two, $one, "$path: the same to both";
        is +(split /-/, $one)[2], $record->{span}, 'of the SERVER span'
            if $path eq '/nospan';
    }
};

subtest 'an overridden header: one span with events' => sub {
    my ($server, $client) = exchange('/x', 1, port => $n->port(5));
    my ($span) = @$client;
    is_deeply [ map { $_->{name} } @{ $span->{events} } ],
        [ ('edgespan.upstream.try') x 2 ], 'two tries';
    is_deeply [ map { my $e = $_->{attrs}; [ map { $e->{$_} }
        qw(network.peer.port http.response.status_code error.type) ] }
        @{ $span->{events} } ],
        [ [ $first{http}->port, undef, 'no_response' ],
          [ $second{http}->port, 200, undef ] ], 'what became of them';
    is $span->{attrs}{'network.peer.port'}, $second{http}->port, 'the last';
    is $span->{status}{code}, 'UNSET', 'decides';
    is logged_id('/x'), $span->{span_id}, '$otel_upstream_span_id';
};

subtest 'a kept connection, and one that breaks' => sub {
    my (undef, $client) = exchange('/kept/x', 1);
    my $first = $client->[0]{attrs};
    is $first->{'edgespan.upstream.reused'}, undef, 'new';
    cmp_ok $first->{'edgespan.time.upstream_connect'}, '>', 0, 'connected';
    (undef, $client) = exchange('/kept/x', 1);
    my $again = $client->[0]{attrs};
    is $again->{'edgespan.upstream.reused'}, 1, 'reused';
    is $again->{'edgespan.time.upstream_connect'}, undef, 'not connected again';
    cmp_ok $again->{'edgespan.time.upstream_first_byte'}, '>', 0, 'first byte';

    (my $server, $client) = exchange('/kept/break', 2);
    is $client->[0]{attrs}{'edgespan.upstream.reused'}, 1, 'the kept one broke';
    is $client->[1]{attrs}{'edgespan.upstream.reused'}, undef, 'a new one';
    is_deeply [ map { $_->{attrs}{'error.type'} } @$client ],
        [ ('no_response') x 2 ], 'no response of either';
    is $server->{attrs}{'error.type'}, 502, 'nor to the client';
    my @got = ($fickle->requests)[ -2, -1 ];
    is count_of($got[$_], $client->[$_]{span_id}), 5, "id $_" for 0, 1;
};

sub seconds {
    my ($span, $what) = @_;
    return $span->{attrs}{"edgespan.time.$what"};
}

for my $path ('/slow', '/slowtls', '/noreuse') {
    subtest "exact times: $path" => sub {
        my ($server, $client) = exchange($path, 1);
        my ($span) = @$client;
        cmp_ok seconds($span, 'upstream_first_byte'), '>=', 0.199,
            'first byte' if $path eq '/slow';
        # nginx may have been late to see the header.
        cmp_ok seconds($span, 'upstream_body'), '>=', 0.1, 'body';
        my $tls = seconds($span, 'upstream_tls');
        my $connect = seconds($span, 'upstream_connect');
        if ($path eq '/slow') { is $tls, undef, 'no TLS' }
        else { cmp_ok $tls // $connect, '>', 0.0001, 'a handshake' }
        my $sum = 0;
        $sum += seconds($span, $_) // 0 for qw(upstream_connect upstream_tls
            upstream_first_byte upstream_body);
        my $took = ($span->{end} - $span->{start}) / 1e9;
        cmp_ok abs($sum - $took), '<', 1e-6, "they add up to $took s";
        cmp_ok seconds($server, 'upstream_body'), '>=', 0.1, 'SERVER: body';
        cmp_ok seconds($server, 'upstream_first_byte'), '>=', 0.199,
            'SERVER: first byte';
    };
}

subtest 'a TLS handshake that fails is a connection that failed' => sub {
    my ($server, $client) = exchange('/tlsbad', 1);
    is $client->[0]{attrs}{'error.type'}, 'connection_failed', 'error.type';
    is seconds($client->[0], 'upstream_first_byte'), undef, 'no first byte';
};

for my $path ('/hanging', '/half') {
    subtest "$path: a timeout, then another peer" => sub {
        my (undef, $client) = exchange($path, 2);
        is $client->[0]{attrs}{'error.type'}, 'timeout', 'error.type';
        cmp_ok $client->[0]{end} - $client->[0]{start}, '>=', 295e6,
            'took its time';
        is $client->[1]{attrs}{'http.response.status_code'}, 200, 'then 200';
        cmp_ok seconds($client->[1], 'upstream_first_byte'), '>', 0,
            'with a first byte';
    };
}

subtest 'hammered: each id once, and every one that was sent is a span' => sub {
    my @pids = map {
        my $pid = fork // die "fork: $!";
        if (!$pid) {
            for my $path (qw(/plain /three /kept/x /fastcgi /uwsgi /scgi)) {
                eval { http_get($n->port(1), $path) };
            }
            POSIX::_exit(0);
        }
        $pid } 1 .. 8;
    waitpid $_, 0 for @pids;
    my (undef, $record) = $n->recorded(sub { http_get($n->port(1), '/plain') });
    $n->trace($record, 3);
    my %known;
    my $twice = grep { $known{ $_->{span_id} }++ } $n->collector->spans;
    is $twice, 0, 'no id twice';
    for my $up (values %first, values %second, $busy, $fickle) {
        my @lost = grep { !$known{$_} } map {
            /traceparent\W*00-[0-9a-f]{32}-([0-9a-f]{16})-03/i ? $1 : () }
            $up->requests;
        is "@lost", '', 'all are there';
    }
};

$n->lint;
$n->finish;
done_testing;
