# SERVER spans of HTTP/2 and of https: streams have copied connections, and TLS
# has requests that are none.

use strict;
use warnings;

use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(sleep time);

use EdgespanTest;
use EdgespanTest::Http2;
use EdgespanTest::NginxTraced;
use EdgespanTest::Tree;
use EdgespanTest::Upstream;

my $u = EdgespanTest::Upstream->new(respond => sub {
    return 'hang' if $_[0] =~ m{\A\S+ \S*/hang};
    return "HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\nstart", 'hang'
        if $_[0] =~ m{\A\S+ \S*/partial};
    return EdgespanTest::Upstream::http_response();
});

my $n = EdgespanTest::NginxTraced->new(
    allow => qr/\[crit\].* SSL_do_handshake\(\) failed .*length too short/,
    vars => { UP => $u->address },
    files => { 'html/big' => 'x' x 3_000_000 },
    http => <<'CONF');
ssl_certificate %%PREFIX%%/cert.pem;
ssl_certificate_key %%PREFIX%%/key.pem;
proxy_http_version 1.1;
proxy_buffering off;
server {
    listen 127.0.0.1:%%PORT1%% http2;
    large_client_header_buffers 2 1k;
    location / { return 200 h2; }
    location /big { root %%PREFIX%%/html; error_page 405 =200 /big; }
    location /proxy { proxy_pass http://%%UP%%; }
    location /all { auth_request /check; mirror /mirrored; proxy_pass http://%%UP%%; }
    location = /check { internal; proxy_pass http://%%UP%%; }
    location = /mirrored { internal; proxy_pass http://%%UP%%; }
}
server {
    listen 127.0.0.1:%%PORT2%% ssl http2;
    location / { return 200 tls; }
}
server {
    listen 127.0.0.1:%%PORT3%% ssl;
    # a fake request looks the variable up for each handshake
    ssl_certificate %%PREFIX%%/cert$otel_sampled$ssl_server_name.pem;
    location / { return 200 tls; }
}
CONF

my $dir = $n->prefix;
system("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost "
    . "-keyout $dir/key.pem -out $dir/cert.pem >$dir/openssl.log 2>&1") == 0
    or die slurp("$dir/openssl.log");
# Whatever the fake request says, the certificate is there.
symlink 'cert.pem', "$dir/cert$_.pem" or die $!
    for map { $_, "${_}localhost" } qw(0 1);
symlink 'cert.pem', "$dir/certlocalhost.pem" or die $!;
$n->start;
my ($h2, $tls, $fake) = map { $n->port($_) } 1 .. 3;
my $count = 0;

sub curl {
    my (@args) = @_;
    open my $out, '-|', 'curl', qw(-sk --noproxy * --max-time 30), @args
        or die "curl: $!";
    local $/;
    return <$out> // '';
}

my @get = (':method' => 'GET', ':scheme' => 'http', ':path' => '/raw');

# Runs the code and checks the SERVER span of its one request.
sub one {
    my ($what, $code, %want) = @_;
    my ($value, $record) = $n->recorded($code);
    $count++;
    subtest $what => sub {
        my $s = $n->server_span($record);
        my $took = ($s->{end} - $s->{start}) / 1e6;
        # The clock of $request_time stands still while nginx works.
        cmp_ok abs($took - 1000 * $record->{time}), '<', 1000,
            "duration $took ms, \$request_time $record->{time} s";
        is $s->{name}, delete $want{name} // 'GET /*', 'name';
        is $s->{status}{code}, delete $want{code} // 'UNSET', 'status';
        $want{'http.response.status_code'} = 200
            unless exists $want{'http.response.status_code'};
        $want{$_} //= undef for qw(edgespan.reason error.type);
        is $s->{attrs}{$_}, $want{$_}, $_ for sort keys %want;
    };
    return $value;
}

one 'HTTP/2 with prior knowledge', sub {
        curl('--http2-prior-knowledge', "http://127.0.0.1:$h2/x?y=1") },
    'network.protocol.version' => '2', 'url.scheme' => 'http',
    'url.path' => '/x', 'url.query' => 'y=1', 'client.address' => '127.0.0.1',
    'network.peer.address' => '127.0.0.1', 'server.address' => '127.0.0.1',
    'server.port' => $h2, 'http.response.body.size' => 2;

one 'HTTP/2 over TLS', sub { curl('--http2', "https://localhost:$tls/") },
    'network.protocol.version' => '2', 'url.scheme' => 'https',
    'server.address' => 'localhost', 'server.port' => $tls;

one 'HTTP/1.1 over TLS', sub { curl('--http1.1', "https://localhost:$tls/") },
    'network.protocol.version' => '1.1', 'url.scheme' => 'https',
    'http.response.body.size' => 3;

one 'https without a port', sub { curl('--http1.1', '-H', 'Host: example.com',
        "https://localhost:$tls/") },
    'server.address' => 'example.com', 'server.port' => 443;

one 'plain HTTP to an https port (497)', sub { http_get($fake, '/') },
    name => 'GET', 'http.response.status_code' => 400,
    'http.route' => undef;

subtest 'a failed TLS handshake is no request' => sub {
    my ($lines, $mark) = (scalar(my @r = $n->records), $n->log_mark);
    # There is no ECDSA certificate.
    curl('--tlsv1.2', '--tls-max', '1.2', '--ciphers', 'ECDHE-ECDSA-AES128-GCM-SHA256',
        "https://localhost:$tls/");
    $n->wait_log(qr/SSL_do_handshake\(\) failed/, 5, $mark);
    $mark = $n->log_mark;
    my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $tls) or die;
    syswrite $sock, pack('C n n', 22, 0x0301, 4) . "\1\0\0\0";
    close $sock;
    $n->wait_log(qr/SSL_do_handshake\(\) failed|closed connection in SSL/,
        5, $mark);
    is scalar(@r = $n->records), $lines, 'nothing logged';
};

one 'a certificate found by $otel_sampled: the fake request is tolerated',
    sub { curl("https://localhost:$fake/") }, 'url.scheme' => 'https';

subtest 'many streams of one connection are a span each' => sub {
    my (undef, @records) = $n->recorded(sub {
        my $sock = h2_connect($h2);
        h2_request($sock, 2 * $_ + 1, @get, ':authority' => "a$_")
            for 0 .. 19;
        wait_for(sub { $n->records >= $count + 20 }, 5, '20 streams');
        close $sock;
    }, 20);
    $count += 20;
    my %host = map { $n->server_span($_)->{attrs}{'server.address'} => 1 }
        @records;
    is scalar(keys %host), 20, 'each with its own :authority';
};

subtest 'idle time of the connection belongs to no stream' => sub {
    my $sock = h2_connect($h2);
    for my $i (0, 1) {
        my (undef, $record) = $n->recorded(sub {
            h2_request($sock, 2 * $i + 1, @get, ':authority' => 'idle') });
        $count++;
        my $s = $n->server_span($record);
        cmp_ok $s->{end} - $s->{start}, '<', 1e9, 'short';
        sleep 1;
    }
};

{
    my $sock = h2_connect($h2);
    one 'a header block that arrives slowly', sub {
        my $block = fields(@get, ':authority' => 'slow');
        syswrite $sock, frame(HEADERS => 1, 1, substr $block, 0, 20);
        sleep 0.2;
        syswrite $sock, frame(CONTINUATION => 4, 1, substr $block, 20);
    }, 'server.address' => 'slow';
}

{
    my $sock = h2_connect($h2);
    one 'no :authority', sub { h2_request($sock, 1, @get) },
        name => 'GET', 'http.response.status_code' => 400,
        'url.path' => '/raw';
    one 'no :path', sub { h2_request($sock, 3, @get[0 .. 3]) },
        name => 'GET', 'http.response.status_code' => 400;
    one 'the connection has survived', sub {
        h2_request($sock, 5, @get, ':authority' => 'x') };
    one 'a field that is too large ends the connection', sub {
        my $big = "\x00\x01x\x7f" . chr(0x80 | (9000 - 127) % 128)
            . chr(int((9000 - 127) / 128)) . 'x' x 9000;
        syswrite $sock, frame(HEADERS => 5, 7, fields(@get) . $big);
    }, name => 'GET', 'http.response.status_code' => undef;
}

{
    my $sock = h2_connect($h2);
    one 'a stream that its client resets before the response', sub {
        h2_request($sock, 1, @get[0 .. 3], ':path' => '/proxy/hang',
            ':authority' => 'x');
        $u->wait_requests(1);
        syswrite $sock, frame(RST_STREAM => 0, 1, pack 'N', 8);
    }, name => 'GET /proxy*', 'http.response.status_code' => undef,
        'edgespan.reason' => 'client_closed_request';
    one 'a stream that its client resets in the middle of the response', sub {
        h2_request($sock, 3, @get[0 .. 3], ':path' => '/proxy/partial',
            ':authority' => 'x');
        $u->wait_requests(2);
        my $got = '';
        $sock->blocking(0);
        wait_for(sub { sysread $sock, $got, 4096, length $got;
            $got =~ /start/ }, 5, 'the first bytes');
        $sock->blocking(1);
        syswrite $sock, frame(RST_STREAM => 0, 3, pack 'N', 8);
    }, name => 'GET /proxy*', 'edgespan.reason' => 'client_closed_request';
    one 'the connection goes in the middle of a response', sub {
        h2_request($sock, 5, @get[0 .. 3], ':path' => '/big',
            ':authority' => 'x');
        close $sock;
    }, name => 'GET /big*', 'edgespan.reason' => 'client_closed_request';
}

# [':path', what the client does behind its header, the phase that shows it]
for my $case ([ '/proxy/post', sub {
        my ($sock) = @_;
        syswrite $sock, frame(DATA => 0, 1, 'half');
        sleep 0.4;
        syswrite $sock, frame(DATA => 1, 1, 'half');
    }, 'client_upload' ], [ '/big', sub {
        my ($sock) = @_;
        syswrite $sock, frame(DATA => 1, 1, '');
        # Until then it has room for 64 KiB, be that in the stream or in all.
        sleep 0.4;
        syswrite $sock, frame(WINDOW_UPDATE => 0, $_, pack 'N', 1 << 24) for 0, 1;
    }, 'client_download' ]) {
    my ($path, $do, $slow) = @$case;
    subtest "a slow client: $slow" => sub {
        my (undef, $record) = $n->recorded(sub {
            my $sock = h2_connect($h2);
            syswrite $sock, frame(HEADERS => 4, 1, fields(':method' => 'POST', @get[2, 3],
                ':path' => $path, ':authority' => 'x', 'content-type' => 'text/plain'));
            $do->($sock);
            h2_answers($sock, 1);
        });
        $count++;
        my $attrs = $n->server_span($record)->{attrs};
        my ($most) = sort { $attrs->{$b} <=> $attrs->{$a} } grep {/^edgespan\.time\./} keys %$attrs;
        is $most, "edgespan.time.$slow", 'the slow one';
        cmp_ok $attrs->{$most}, '>=', 0.3, 'as slow as it was';
    };
}

subtest 'auth_request and mirror' => sub {
    my (undef, $record) = $n->recorded(sub {
        curl('--http2-prior-knowledge', "http://127.0.0.1:$h2/all") });
    $count++;
    my @spans = $n->trace($record);
    my ($expected, $got) = EdgespanTest::Tree::compare(EdgespanTest::Tree::parse(<<'TREE'), \@spans, {}, sub { $_[0] });
SERVER GET /all* 200
  . network.protocol.version = 2
  INTERNAL subrequest /check 200
    CLIENT GET 200
  CLIENT GET 200
  INTERNAL subrequest /mirrored 200 background=1
    CLIENT GET 200
TREE
    is $got, $expected, 'the spans';
    note EdgespanTest::Tree::tree(\@spans);
};

subtest 'spans in all' => sub {
    is scalar(my @s = $n->collector->spans(kind => 'SERVER')), $count,
        'one SERVER span for each request';
    is scalar(my @r = $n->records), $count, 'as many as nginx logged';
    is scalar(my @c = $n->collector->spans(kind => 'CLIENT')), 6,
        'CLIENT spans';
};

$n->lint;
$n->finish;
done_testing;
