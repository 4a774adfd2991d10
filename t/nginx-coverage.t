# A SERVER span for every request that nginx answers, and for none that it does
# not know: each way through (and around) the phases is a case of one table.

use strict;
use warnings;

use IO::Socket::INET;
use IO::Socket::UNIX;
use Socket qw(SOL_SOCKET SO_RCVBUF inet_aton pack_sockaddr_in);
use Test::More;
use Time::HiRes qw(sleep time);

use EdgespanTest;
use EdgespanTest::NginxTraced;
use EdgespanTest::Upstream;

my $u = EdgespanTest::Upstream->new(respond => sub {
    my ($path) = $_[0] =~ m{\A\S+ (\S+)};
    return 'hang' if $path =~ /hang/;
    return "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok", 'close' if $path =~ /cut/;
    return "HTTP/1.1 $1 X\r\nContent-Length: 0\r\n\r\n" if $path =~ m{/says(\d+)};
    my $to = $path =~ m{accel/(\S+)} ? "X-Accel-Redirect: $1\r\n" : '';
    return ([ delay => $path =~ /slow/ ? 0.2 : 0 ],
        "HTTP/1.1 200 OK\r\n${to}Content-Length: 3\r\n\r\nok\n");
});

my $n = EdgespanTest::NginxTraced->new(
    vars  => { UP => $u->address },
    files => { 'html/file.txt' => 'x' x 1000, 'html/big' => 'x' x (16 << 20), 'html/e/404.html' => 'lost' },
    http  => <<'CONF');
limit_req_zone $uri zone=one:1m rate=1r/m;
limit_conn_zone $uri zone=few:1m;
proxy_http_version 1.1;
upstream up { server %%UP%%; }
server {
    listen 127.0.0.1:%%PORT1%%;
    listen unix:%%PREFIX%%/run/listen.sock;
    client_header_timeout 2s;
    client_max_body_size 10;
    large_client_header_buffers 2 1k;
    location / { if_modified_since before; }
    location = /return { return 204; }
    location = /rated { limit_rate 1k; alias %%PREFIX%%/html/big; }
    location = /sendfile { sendfile on; alias %%PREFIX%%/html/big; }
    location /old/ { rewrite ^/old/(.*) /new/$1 last; }
    location /new/ { log_subrequest on; return 200 new; }
    location /if/ { if ($request_method = GET) { return 200 if; } }
    location ~ ^/re/(\d+)$ { return 200 $1; }
    location ^~ /nested/ {
        location /nested/deep/ { return 200 deep; }
        limit_except GET { deny all; }
    }
    location /try/ { try_files $uri /new/x; }
    location /tryname/ { try_files $uri @name; }
    location @name { return 200 name; }
    location /accel/ { proxy_pass http://up; }
    location /internal/ { internal; alias %%PREFIX%%/html/; }
    location /missing/ { error_page 404 /e/404.html; }
    location /missingname/ { error_page 404 = @name; }
    location /e/ { internal; }
    location /precondition { error_page 412 /e/404.html; alias %%PREFIX%%/html/file.txt; }
    location = /444 { return 444; }
    location /hang { proxy_pass http://up; }
    location /late { error_page 404 /hang/late; }
    location /slow { proxy_pass http://up; }
    location /limited { limit_req zone=one; }
    location /denied { deny all; }
    location /down { proxy_pass http://127.0.0.1:1; }
    location /sub/ { ssi on; ssi_types text/plain;
        alias %%PREFIX%%/html/sub/; }
    location = /auth { auth_request /check; }
    location = /check { internal; return 403; }
    location = /post-action { return 200; post_action /new/after; }
    location /conn/ { limit_conn few 1; proxy_pass http://up; }
    location /softly { limit_req zone=one; limit_req_dry_run on; limit_conn few 1;
        limit_conn_dry_run on; alias %%PREFIX%%/html/file.txt; }
    location /cut { proxy_pass http://up; }
    location /says { proxy_intercept_errors on; error_page 404 = @name; error_page 500 =503 /e/404.html;
        error_page 403 /says200; error_page 409 https://example.com/; error_page 410 /missing/y; proxy_pass http://up; }
    location /trycode { try_files $uri =418; }
    location /tryfile { try_files /nothing /file.txt =404; }
    location /accelname { proxy_pass http://up/accel/@nowhere; }
    location /recurse { error_page 404 /recurse2; alias %%PREFIX%%/html/none; }
    location /recurse2 { alias %%PREFIX%%/html/none2; }
    location /break { rewrite ^ /file.txt break; }
    location /moved { rewrite ^ /new/ redirect; }
    location /loop { rewrite ^ /loop last; }
    location = /dir { root %%PREFIX%%/html; index file.txt; }
    location /auto/ { proxy_pass http://up; }
    location /outer { if ($arg_a) { set $b 1; } if ($arg_c) { proxy_pass http://up; } proxy_pass http://up; }
    location /401 { auth_basic x; auth_basic_user_file %%PREFIX%%/html/file.txt; error_page 401 @name; }
}
server {
    listen 127.0.0.1:%%PORT2%%;
    return 302 /elsewhere;
}
server {
    listen 127.0.0.1:%%PORT3%%;
    client_header_timeout 1s;
    error_page 400 /bad;
    location = /bad { return 200 bad; }
}
server {
    listen 127.0.0.1:%%PORT4%%;
    set_real_ip_from 127.0.0.1;
    real_ip_header X-Forwarded-For;
}
CONF
$n->write_file('html/sub/page',
    '<!--# include virtual="/new/a" --><!--# include virtual="/slow" -->');
$n->start;
my ($port, $top, $strict, $real) = map { $n->port($_) } 1 .. 4;
my %want_kind = (SERVER => 0, CLIENT => 0, INTERNAL => 0);

sub get { my ($path, %opt) = @_; return sub { http_get($port, $path, %opt) } }
sub raw { my ($text, %opt) = @_;
    return sub { http_raw($opt{port} // $port, $text, half_close => 0, %opt) } }

# Sends and goes away: when something was logged, or at once.
sub leave {
    my ($text, $p, $wait) = @_;
    return sub {
        my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
            PeerPort => $p // $port) or die "connect: $!";
        print {$sock} $text;
        $sock->flush;
        $wait->() if $wait;
        close $sock;
    };
}

my $H = "Host: localhost\r\n";
my $CLOSE = "${H}Connection: close\r\n\r\n";
# [name, what to do, span name, route, status, more expected attributes and:
#  clients => CLIENT spans, internals => INTERNAL ones, status_code => of the span]
my @case = (
    [ 'a static file', get('/'), 'GET /*', '/*', 200,
        'url.path' => '/', 'url.scheme' => 'http', 'url.query' => undef,
        'server.address' => 'localhost', 'server.port' => 80,
        'network.protocol.version' => '1.1', 'client.address' => '127.0.0.1',
        'http.request.method' => 'GET', 'network.peer.address' => '127.0.0.1',
        'http.response.body.size' => 6 ],
    [ 'a location that is not there', get('/no'), 'GET /*', '/*', 404 ],
    [ '"return" in a location: no PRECONTENT', get('/return'), 'GET /return',
        '/return', 204, 'http.response.body.size' => 0 ],
    [ '"return" in server{}: no REWRITE',
        sub { http_get($top, '/x?a=b') }, 'GET', undef, 302,
        'url.path' => '/x', 'url.query' => 'a=b' ],
    [ '"rewrite ... last": REWRITE again', get('/old/1'), 'GET /new/*',
        '/new/*', 200, 'url.path' => '/old/1' ],
    [ '"if" has the route of its location', get('/if/'), 'GET /if/*', '/if/*',
        200 ],
    [ 'a regular expression', get('/re/42'), 'GET ^/re/(\d+)$', '^/re/(\d+)$',
        200 ],
    [ 'a nested location', get('/nested/deep/x'), 'GET /nested/deep/*',
        '/nested/deep/*', 200 ],
    [ 'limit_except', get('/nested/x', method => 'DELETE'), 'DELETE /nested/*',
        '/nested/*', 403 ],
    [ 'try_files to a URI: ctx zeroed', get('/try/x'), 'GET /try/*', '/try/*',
        200 ],
    [ 'try_files to @named', get('/tryname/x'), 'GET /tryname/*',
        '/tryname/*', 200 ],
    [ 'X-Accel-Redirect to a file', get('/accel//internal/file.txt'),
        'GET /accel/*', '/accel/*', 200, clients => 1,
        'http.response.body.size' => 1000 ],
    [ 'X-Accel-Redirect to @named', get('/accel/@name'), 'GET /accel/*',
        '/accel/*', 200, clients => 1 ],
    [ 'X-Accel-Redirect after POST keeps the method',
        get('/accel//internal/file.txt', method => 'POST', body => 'x'),
        'POST /accel/*', '/accel/*', 200, clients => 1,
        'http.request.method' => 'POST' ],
    [ 'error_page to a URI', get('/missing/x'), 'GET /missing/*', '/missing/*',
        404 ],
    [ 'error_page to a URI after POST keeps the method',
        get('/missing/x', method => 'POST', body => 'x'), 'POST /missing/*',
        '/missing/*', 404, 'http.request.method' => 'POST' ],
    [ 'error_page to @named', get('/missingname/x'), 'GET /missingname/*',
        '/missingname/*', 200 ],
    [ 'a filter that finalizes (412): ctx zeroed',
        get('/precondition', headers => [ [ 'If-Match', '"no"' ] ]),
        'GET /precondition*', '/precondition*', 412 ],
    [ 'not modified (304)', get('/file.txt', headers => [ [
        'If-Modified-Since', 'Fri, 31 Dec 2100 23:59:59 GMT' ] ]), 'GET /*',
        '/*', 304 ],
    [ 'a range (206)', get('/file.txt', headers => [ [ 'Range', 'bytes=0-9' ] ]),
        'GET /*', '/*', 206, 'http.response.body.size' => 10 ],
    [ 'HEAD', get('/file.txt', method => 'HEAD'), 'HEAD /*', '/*', 200,
        'http.response.body.size' => 0 ],
    [ 'POST with a body', get('/return', method => 'POST', body => '123456'),
        'POST /return', '/return', 204, 'http.request.body.size' => 6 ],
    [ 'a method of WebDAV', get('/new/', method => 'PROPFIND'), 'HTTP /new/*',
        '/new/*', 200, 'http.request.method' => '_OTHER',
        'http.request.method_original' => 'PROPFIND' ],
    [ 'a method that nobody knows', get('/new/', method => 'BREW'),
        'HTTP /new/*', '/new/*', 200, 'http.request.method' => '_OTHER',
        'http.request.method_original' => 'BREW' ],
    [ '400: no HTTP at all', raw("nonsense\r\n\r\n"), 'HTTP', undef, 400 ],
    [ '400: TLS to a plain port', raw("\x16\x03\x01\x02\x00\x01\x00\r\n"),
        'HTTP', undef, 400 ],
    [ '400: a method in lower case', raw("get /x HTTP/1.1\r\n\r\n"), 'HTTP',
        undef, 400, 'http.request.method' => '_OTHER',
        'http.request.method_original' => 'get' ],
    [ '400: bad Host', raw("GET /new/?x=1 HTTP/1.1\r\nHost: a..b\r\n\r\n"),
        'GET', undef, 400, 'url.path' => '/new/' ],
    [ '400: no Host in HTTP/1.1', raw("GET /new/ HTTP/1.1\r\n\r\n"), 'GET',
        undef, 400 ],
    [ '400 with error_page: SERVER_REWRITE without POST_READ',
        raw("GET /x HTTP/1.1\r\nHost: a..b\r\n\r\n", port => $strict), 'GET',
        undef, 400, 'url.path' => '/x' ],
    [ '400 with error_page after POST keeps the method',
        raw("POST /x HTTP/1.1\r\nHost: a..b\r\n\r\n", port => $strict), 'POST',
        undef, 400 ],
    [ '505: the version of HTTP', raw("GET / HTTP/3.0\r\n\r\n"), 'GET',
        undef, 505, status_code => 'ERROR', 'error.type' => 505 ],
    [ '408: the header never ends',
        raw("GET /x HTTP/1.1\r\nHo", port => $strict), 'GET', undef, undef,
        'edgespan.reason' => 'request_timeout', 'url.path' => '/x' ],
    [ '408: the request line never ends',
        raw("GET /x", port => $strict), 'GET', undef, undef,
        'edgespan.reason' => 'request_timeout' ],
    [ 'the client closes in the middle of the header',
        leave("GET /x HTTP/1.1\r\nHo"), 'GET', undef, undef,
        'edgespan.reason' => 'client_closed_request' ],
    [ 'HTTP/0.9: no list of headers', raw("GET /new/\r\n"), 'GET /new/*',
        '/new/*', 200, 'network.protocol.version' => '0.9' ],
    [ 'HTTP/1.0 without Host', raw("GET /new/ HTTP/1.0\r\n\r\n"), 'GET /new/*',
        '/new/*', 200, 'network.protocol.version' => '1.0',
        'server.address' => undef ],
    [ 'a body that is too large (413)', get('/new/', method => 'POST', body => 'x' x 11), 'POST /new/*',
        '/new/*', 413 ],
    [ 'a URI that is too long (414)', get('/' . 'x' x 1500), 'GET', undef, 414 ],
    [ 'a header field that is too large (494, sent as 400)',
        get('/new/', headers => [ [ 'X-A', 'x' x 1500 ] ]), 'GET', undef, 400 ],
    [ 'return 444', get('/444'), 'GET /444', '/444', undef,
        'edgespan.reason' => 'connection_closed_without_response' ],
    [ 'the client gives up waiting (499)', leave("GET /hang HTTP/1.1\r\n$CLOSE", undef, sub {
            wait_for(sub { grep {m{ /hang }} $u->requests }, 5, 'upstream') }),
        'GET /hang*', '/hang*', undef, clients => 1,
        'edgespan.reason' => 'client_closed_request' ],
    [ 'the client leaves while another answer is looked for', leave("GET /late HTTP/1.1\r\n$CLOSE",
            undef, sub { wait_for(sub { grep {m{ /hang/late }} $u->requests }, 30, 'upstream') }),
        'GET /late*', '/late*', undef, clients => 1,
        'edgespan.reason' => 'client_closed_request' ],
    [ 'the client has left before the response', leave("GET /sendfile HTTP/1.1\r\n$CLOSE"),
        'GET /sendfile', '/sendfile', 200, 'edgespan.reason' => 'client_closed_request' ],
    (map {my $path = $_; [ "the client leaves in the middle of $path", sub {
            my $sock = IO::Socket::INET->new(Proto => 'tcp') or die "socket: $!\n";
            # Or else all of it may be in the kernel before the client leaves.
            setsockopt $sock, SOL_SOCKET, SO_RCVBUF, 65536 or die "SO_RCVBUF: $!\n";
            connect $sock, pack_sockaddr_in($port, inet_aton('127.0.0.1')) or die "connect: $!\n";
            print {$sock} "GET $path HTTP/1.1\r\n$CLOSE"; $sock->flush;
            sysread $sock, my $start, 1000; close $sock; },
        "GET $path", $path, 200, 'edgespan.reason' => 'client_closed_request' ]} qw(/sendfile /rated)),
    [ 'limit_req: the first', get('/limited'), 'GET /limited*', '/limited*',
        404 ],
    [ 'limit_req: the rejected', get('/limited'), 'GET /limited*',
        '/limited*', 503, status_code => 'ERROR', 'error.type' => 503,
        'edgespan.reason' => 'limit_req' ],
    [ 'limit_req and limit_conn that only look', sub { (get('/softly')->(), get('/softly')->())[1] },
        'GET /softly*', '/softly*', 200, lines => 2, others => 1 ],
    [ 'an upstream that stops in the middle', get('/cut'), 'GET /cut*', '/cut*', 200, clients => 1,
        status_code => 'ERROR', 'error.type' => 'upstream_response_truncated' ],
    [ 'error_page = @named takes its status', get('/says404'), 'GET /says*', '/says*', 200, clients => 1 ],
    [ 'error_page =503 says so', get('/says500'), 'GET /says*', '/says*', 503, clients => 1,
        status_code => 'ERROR', 'error.type' => 503 ],
    [ 'error_page to another answer of the upstream', get('/says403'), 'GET /says*', '/says*', 403,
        clients => 2 ],
    [ 'error_page to another server', get('/says409'), 'GET /says*', '/says*', 302, clients => 1 ],
    [ 'error_page to what is not there, either', get('/says410'), 'GET /says*', '/says*', 404, clients => 1 ],
    [ 'error_page of a location, whose target fails', get('/recurse/x'), 'GET /recurse*', '/recurse*', 404 ],
    [ 'error_page 401 to @named', get('/401'), 'GET /401*', '/401*', 401 ],
    [ 'try_files to a code', get('/trycode'), 'GET /trycode*', '/trycode*', 418 ],
    [ 'try_files to a file', get('/tryfile'), 'GET /tryfile*', '/tryfile*', 200 ],
    [ 'X-Accel-Redirect to a name that nobody has', get('/accelname'), 'GET /accelname*', '/accelname*', 500,
        clients => 1, status_code => 'ERROR', 'error.type' => 500 ],
    [ 'X-Accel-Redirect to what is missing', get('/accel//internal/none'), 'GET /accel/*', '/accel/*', 404,
        clients => 1 ],
    [ 'an internal location from outside', get('/internal/file.txt'), 'GET /internal/*', '/internal/*', 404 ],
    [ '"rewrite ... break"', get('/break'), 'GET /break*', '/break*', 200 ],
    [ '"rewrite ... redirect"', get('/moved'), 'GET /moved*', '/moved*', 302 ],
    [ 'a rewrite that never ends', get('/loop'), 'GET /loop*', '/loop*', 500, status_code => 'ERROR',
        'error.type' => 500 ],
    [ 'a slash is missing', get('/auto'), 'GET /auto/*', '/auto/*', 301 ],
    [ '"if" keeps the handler of its location', get('/outer?a=1'), 'GET /outer*', '/outer*', 200, clients => 1 ],
    [ '"if" with a handler of its own', get('/outer?c=1'), 'GET /outer*', '/outer*', 200, clients => 1 ],
    # Later ones can be told to let it through, and know its target from 1.29.3 on.
    $n->version ge v1.31.0 ? () : [ 'CONNECT', raw("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
        'CONNECT', undef, $n->version ge v1.29.3 ? 405 : 400 ],
    [ 'TRACE', raw("TRACE / HTTP/1.1\r\n$CLOSE"), 'TRACE', undef, 405 ],
    [ 'a transfer coding that nginx does not know', raw("POST / HTTP/1.1\r\nTransfer-Encoding: x\r\n$CLOSE"),
        'POST', undef, 501, status_code => 'ERROR', 'error.type' => 501 ],
    [ 'deny', get('/denied'), 'GET /denied*', '/denied*', 403 ],
    [ 'an upstream that refuses (502)', get('/down'), 'GET /down*', '/down*', 502, clients => 1,
        status_code => 'ERROR', 'error.type' => 502 ],
    [ 'subrequests, even when logged, have no SERVER span', get('/sub/page'),
        'GET /sub/*', '/sub/*', 200, clients => 1, internals => 2, lines => 2 ],
    [ 'auth_request that says no', get('/auth'), 'GET /auth', '/auth', 403,
        internals => 1 ],
    [ 'post_action', get('/post-action'), 'GET /post-action', '/post-action',
        200 ],
    [ 'absolute form', get('http://example.com:81/new/y?z', host => 'other'),
        'GET /new/*', '/new/*', 200, 'url.path' => '/new/y',
        'url.query' => 'z', 'server.address' => 'example.com' ],
    [ 'secrets of the query', get('/new/?a=1&sig=s3cret&Signature=x&b=2'),
        'GET /new/*', '/new/*', 200,
        'url.query' => 'a=1&sig=REDACTED&Signature=REDACTED&b=2' ],
    [ 'an odd path stays as it was sent', get('/new/../new/%2e/a%20b'),
        'GET /new/*', '/new/*', 200, 'url.path' => '/new/../new/%2e/a%20b' ],
    [ 'an IPv6 Host with a port', get('/new/', host => '[::1]:8080'),
        'GET /new/*', '/new/*', 200, 'server.address' => '::1',
        'server.port' => 8080 ],
    [ 'User-Agent', get('/new/', headers => [ [ 'User-Agent', 'a/1' ] ]),
        'GET /new/*', '/new/*', 200, 'user_agent.original' => 'a/1' ],
    [ 'realip: the client and the peer', sub { http_get($real, '/', headers =>
            [ [ 'X-Forwarded-For', '192.0.2.7' ] ]) }, 'GET', undef, 200,
        'client.address' => '192.0.2.7',
        'network.peer.address' => '127.0.0.1' ],
    [ 'realip: nobody forwarded', sub { http_get($real, '/') }, 'GET', undef,
        200, 'client.address' => '127.0.0.1' ],
    [ 'X-Forwarded-For without realip is not believed',
        get('/new/', headers => [ [ 'X-Forwarded-For', '192.0.2.7' ] ]),
        'GET /new/*', '/new/*', 200, 'client.address' => '127.0.0.1' ],
);

# Milliseconds by which the span is longer than $request_time. nginx's clock stands
# still while it works, so on a busy machine ours is the longer one.
sub apart {
    my ($s, $record) = @_;
    return ($s->{end} - $s->{start}) / 1e6 - 1000 * $record->{time};
}

my @apart;
for my $case (@case) {
    my ($what, $do, $name, $route, $status, %attr) = @$case;
    my $clients = delete $attr{clients} // 0;
    my $internals = delete $attr{internals} // 0;
    $want_kind{SERVER} += delete $attr{others} // 0;
    my $code = delete $attr{status_code} // 'UNSET';
    my (undef, @lines) = $n->recorded($do, delete $attr{lines});
    my $record = $lines[-1];
    $want_kind{SERVER}++;
    $want_kind{CLIENT} += $clients;
    $want_kind{INTERNAL} += $internals;
    subtest $what => sub {
        my @spans = $n->trace($record);
        my @server = grep { $_->{kind} eq 'SERVER' } @spans;
        is @spans, 1 + $clients + $internals, 'no span too many';
        is @server, 1, 'one SERVER span' or return;
        my $s = $server[0];
        is $s->{span_id}, $record->{span}, 'the id of the access log';
        is $s->{name}, $name, 'name';
        is $s->{status}{code}, $code, 'status of the span';
        is $s->{parent_span_id}, '', 'no parent';
        $attr{'http.route'} = $route;
        $attr{'http.response.status_code'} = $status;
        $attr{$_} //= undef for qw(edgespan.reason error.type);
        is $s->{attrs}{$_}, $attr{$_}, $_ for sort keys %attr;
        note sprintf '%-50s %-16s %s', $what, $s->{attrs}{'http.route'} // '-',
            $s->{attrs}{'http.response.status_code'} // '-';
        push @apart, apart($s, $record);
        cmp_ok abs($apart[-1]), '<', 1000, "duration: $apart[-1] ms more than "
            . "\$request_time $record->{time} s";
    };
}

subtest 'durations are those of $request_time' => sub {
    # Both ends of that are cut to whole milliseconds. A slow machine has more to spare.
    my @off = grep { $_ < -1.1 || $_ > 2 } @apart;
    cmp_ok scalar @off, '<', @apart / 2, @apart - @off . ' of ' . @apart;
};

subtest 'a connection without bytes is no request' => sub {
    my $mark = $n->log_mark;
    my $lines = $n->records;
    close(IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port));
    leave('', $strict)->();
    $n->wait_log(qr/closed while waiting for request|client closed connection/,
        5, $mark);
    is scalar(my @now = $n->records), $lines, 'nothing logged';
};

subtest 'a header that arrives slowly is a part of the request' => sub {
    my (undef, $record) = $n->recorded(sub {
        my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
            PeerPort => $port) or die;
        print {$sock} 'GET /new/ HT'; $sock->flush; sleep 1;
        print {$sock} "TP/1.1\r\n$CLOSE"; $sock->flush;
        local $/; <$sock>;
    });
    $want_kind{SERVER}++;
    my $s = $n->server_span($record);
    my $took = ($s->{end} - $s->{start}) / 1e6;
    # nginx may be late to see its first byte.
    cmp_ok $took, '>=', 300, 'as long as the pause';
    cmp_ok abs(apart($s, $record)), '<', 1000, 'as $request_time';
};

subtest 'a slow upstream' => sub {
    my (undef, $record) = $n->recorded(get('/slow'));
    $want_kind{$_}++ for qw(SERVER CLIENT);
    my $s = $n->server_span($record);
    my $took = ($s->{end} - $s->{start}) / 1e6;
    cmp_ok $took, '>=', 195, 'longer than the upstream took';
    cmp_ok abs(apart($s, $record)), '<', 1000, 'as $request_time';
    cmp_ok abs($s->{end} / 1e9 - $record->{end}), '<', 1,
        'ends when it was logged';
};

subtest 'keepalive: the idle time before a request is not its own' => sub {
    my (undef, @records) = $n->recorded(sub {
        my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
            PeerPort => $port) or die;
        for (1 .. 3) {
            print {$sock} "GET /new/ HTTP/1.1\r\n$H\r\n"; $sock->flush;
            sysread $sock, my $answer, 4096;
            sleep 1;
        }
        close $sock;
    }, 3);
    $want_kind{SERVER} += 3;
    for my $record (@records) {
        my $s = $n->server_span($record);
        cmp_ok $s->{end} - $s->{start}, '<', 1e9, 'short';
        is $s->{attrs}{'http.response.body.size'}, 3, 'its own bytes only';
    }
    is scalar(keys %{ { map { $_->{trace} => 1 } @records } }), 3,
        'three traces';
};

subtest 'pipelined requests are a span each' => sub {
    my (undef, @records) = $n->recorded(raw("GET /new/1 HTTP/1.1\r\n$H\r\n"
        . "GET /old/2 HTTP/1.1\r\n$H\r\nGET /new/3 HTTP/1.1\r\n$CLOSE"), 3);
    $want_kind{SERVER} += 3;
    is join(' ', map { $n->server_span($_)->{attrs}{'url.path'} } @records),
        '/new/1 /old/2 /new/3', 'in order';
};

subtest 'limit_conn: who came too much' => sub {
    my $before = $u->requests;
    my (undef, @records) = $n->recorded(sub {
        my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) or die;
        print {$sock} "GET /conn/hang HTTP/1.1\r\n$CLOSE"; $sock->flush;
        $u->wait_requests($before + 1);
        is get('/conn/hang')->()->{status}, 503, 'rejected';
        close $sock;
    }, 2);
    $want_kind{SERVER} += 2;
    $want_kind{CLIENT}++;
    my ($rejected, $first) = map { $n->server_span($_)->{attrs} } @records;
    is $rejected->{'http.response.status_code'}, 503, 'status';
    is $rejected->{'edgespan.reason'}, 'limit_conn', 'reason';
    is $first->{'edgespan.reason'}, 'client_closed_request', 'the other was not';
};

subtest 'pipelined requests do not overlap, and have parents of their own' => sub {
    my @parent = map { sprintf '00-%032x-%016x-01', $_, $_ } 1, 2;
    my (undef, @records) = $n->recorded(raw(join '', map {"GET /slow HTTP/1.1\r\n$_"}
        "${H}traceparent: $parent[0]\r\n\r\n", "traceparent: $parent[1]\r\n$H\r\n", $CLOSE), 3);
    $want_kind{SERVER} += 3;
    $want_kind{CLIENT} += 3;
    my @spans = map { $n->server_span($_) } @records;
    is $spans[$_]{parent_span_id}, sprintf('%016x', $_ + 1), 'its own parent' for 0, 1;
    is $spans[2]{parent_span_id}, '', 'none';
    # nginx counts from whole milliseconds.
    cmp_ok $spans[ $_ - 1 ]{end}, '<=', $spans[$_]{start} + 1e6, 'one after the other' for 1, 2;
};

subtest 'a unix socket' => sub {
    my (undef, $record) = $n->recorded(sub {
        my $sock = IO::Socket::UNIX->new(
            Peer => $n->prefix . '/run/listen.sock') or die $!;
        print {$sock} "GET /new/ HTTP/1.1\r\n$CLOSE"; $sock->flush;
        local $/; <$sock>;
    });
    $want_kind{SERVER}++;
    my $s = $n->server_span($record);
    is $s->{attrs}{'http.response.status_code'}, 200, 'status';
    is $s->{attrs}{'network.peer.port'}, undef, 'no port';
};

subtest 'spans in all' => sub {
    my %kind;
    $kind{ $_->{kind} }++ for $n->collector->spans;
    is_deeply \%kind, \%want_kind, 'one SERVER span for each request';
    is scalar(my @r = $n->records), $want_kind{SERVER} + 1,
        'nginx logged as many, and a subrequest';
};

$n->lint;
$n->finish;
done_testing;
