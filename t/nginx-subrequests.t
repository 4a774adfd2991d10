# Subrequests: each is an INTERNAL span below the request that made it, and what it
# asks of upstreams is below that, with ids that those upstreams were sent.

use strict;
use warnings;

use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(time);

use EdgespanTest;
use EdgespanTest::NginxSubrequests;
use EdgespanTest::Tree;

my (undef, $other) = upstreams();
my $n = serve(
    files => {
        'html/f/page'     => 'file',
        'html/ssi/two'    => '<!--# include virtual="/up/slow1" -->,<!--# include virtual="/up/2?a=b" -->',
        'html/ssi/late'   => 'begin <!--# include virtual="/up/slow1" --> end',
        'html/ssi/wait'   => '<!--# include virtual="/up/slow1" wait="yes" -->,<!--# include virtual="/up/2" wait="yes" -->',
        'html/ssi/set'    => '<!--# include virtual="/up/1" set="v" -->[<!--# echo var="v" -->]',
        'html/ssi/setbad' => '<!--# include virtual="/up/reset" set="v" -->[<!--# echo var="v" -->]',
        'html/ssi/deep'   => '<!--# include virtual="/ssi/middle" -->',
        'html/ssi/middle' => '<!--# include virtual="/pages/page" -->',
        'html/ssi/off'    => '<!--# include virtual="/quiet/page" -->',
        'html/ssi/none'   => '<!--# include virtual="/untraced/page" -->,<!--# include virtual="/up/1" -->',
        'html/ssi/bad'    => '<!--# include virtual="/status/up/reset" -->,<!--# include virtual="/missing/x" -->',
        'html/ssi/fail'   => '<!--# include virtual="/failover/x" -->',
        'html/ssi/accel'  => '<!--# include virtual="/up/to/second/x" -->',
        'html/ssi/local'  => '<!--# include virtual="/return" -->,<!--# include virtual="/old/x" -->',
        'html/ssi/level'  => '<!--# include virtual="/nospan/x" -->',
    },
    http => <<'CONF');
proxy_cache_path %%PREFIX%%/tmp/cache keys_zone=c:1m;
proxy_http_version 1.1;
ssi_types text/plain;
server {
    listen 127.0.0.1:%%PORT1%%;
    root %%PREFIX%%/html;
    location /up/ { proxy_pass http://%%UP%%; }
    location /second/ { internal; proxy_pass http://%%OTHER%%; }
    location /auth { auth_request /check/auth; proxy_pass http://%%UP%%; }
    location /denied { auth_request /check/status/403; error_page 403 /second/denied; proxy_pass http://%%UP%%; }
    location /waiting { auth_request /check/hang; proxy_pass http://%%UP%%; }
    location /authquiet { auth_request /quietcheck; proxy_pass http://%%UP%%; }
    location /authuntraced { auth_request /untracedcheck; proxy_pass http://%%UP%%; }
    location /authmain { auth_request /check/auth; otel_trace off; proxy_pass http://%%UP%%; }
    location /authnever { auth_request /check/auth; otel_sample_rate 0; proxy_pass http://%%UP%%; }
    location /check/ { internal; proxy_pass_request_body off; proxy_set_header Content-Length "";
        proxy_pass http://%%OTHER%%; }
    location = /quietcheck { internal; otel_subrequest_span off; proxy_pass http://%%OTHER%%; }
    location = /untracedcheck { internal; otel_trace off; proxy_pass http://%%OTHER%%; }
    location /mirror { mirror /mirrored; proxy_pass http://%%UP%%; }
    location /mirrorfile { mirror /mirrored; alias %%PREFIX%%/html/f/page; }
    location /pagemirror { mirror /mirrored; ssi on; alias %%PREFIX%%/html/ssi/late; }
    location = /mirrored { internal; proxy_pass http://%%OTHER%%/slow; }
    location /ssi/ { ssi on; }
    location /pages/ { ssi on; proxy_pass http://%%UP%%; }
    location /quiet/ { ssi on; otel_subrequest_span off; proxy_pass http://%%UP%%; }
    location /untraced/ { ssi on; otel_trace off; proxy_pass http://%%UP%%; }
    location /nospan/ { otel_upstream_span off; proxy_pass http://%%UP%%; }
    location /failover/ { error_page 502 = @second; proxy_pass http://%%UP%%/reset/; }
    location @second { proxy_pass http://%%OTHER%%; }
    location /status/ { proxy_pass http://%%UP%%; }
    location /missing/ { error_page 404 /f/page; }
    location = /return { return 200 returned; }
    location /old/ { rewrite ^ /return last; }
    location /added { add_before_body /second/before; add_after_body /second/after; addition_types *;
        proxy_pass http://%%UP%%; }
    location /slice { slice 10; proxy_set_header Range $slice_range; proxy_pass http://%%UP%%; }
    location /runtime/slice { slice 10; set $to %%UP%%; proxy_set_header Range $slice_range;
        proxy_pass http://$to; }
    location /if/slice { slice 10; set $x 1; if ($x) { set $y 2; } proxy_set_header Range $slice_range;
        proxy_pass http://%%UP%%; }
    location /sliceoff { slice 10; otel_subrequest_span off; proxy_set_header Range $slice_range;
        proxy_pass http://%%UP%%; }
    location /update { proxy_cache c; proxy_cache_valid 1s; proxy_cache_use_stale updating;
        proxy_cache_background_update on; proxy_pass http://%%UP%%; }
}
CONF

subtest 'auth_request' => sub {
    request('/auth/x', <<'TREE');
SERVER GET /auth* 200
  INTERNAL subrequest /check/* 200
    . http.request.method = GET
    . url.path = /check/auth
    . server.address absent
    . edgespan.background absent
    CLIENT GET 200
  CLIENT GET 200
TREE
    request('/auth/x', <<'TREE', method => 'POST', body => 'abc');
SERVER POST /auth* 200
  INTERNAL subrequest /check/* 200
    . http.request.method = GET
    CLIENT GET 200
  CLIENT POST 200
TREE
};

subtest 'auth_request that says no, and an error page behind it' => sub {
    my (undef, undef, $answer) = request('/denied/x', <<'TREE');
SERVER GET /denied* 403
  INTERNAL subrequest /check/* 403
    CLIENT GET 403 error=403
  CLIENT GET 200
TREE
    is $answer->{body}, 'ok', 'the page';
};

subtest 'a place may keep quiet of its subrequests, and of what they do' => sub {
    request('/authquiet/x', <<'TREE');
SERVER GET /authquiet* 200
  CLIENT GET 200
  CLIENT GET 200
TREE
    # What it sends is what the client sent: nothing.
    my (undef, $record) = $n->recorded(sub { http_get($n->port(1), '/authuntraced/x') });
    is join(' ', map { $_->{kind} } sort { $a->{start} <=> $b->{start} } $n->trace($record)),
        'SERVER CLIENT', 'only the request itself';
    unlike +($other->requests)[-1], qr/^traceparent/mi, 'no context';
};

subtest 'a subrequest does not begin what its request has not' => sub {
    for my $path ('/authmain/x', '/authnever/x') {
        my $spans = () = $n->collector->spans;
        $n->recorded(sub { http_get($n->port(1), $path) });
        my (undef, $record) = $n->recorded(sub { http_get($n->port(1), '/return') });
        $n->server_span($record);
        is scalar(() = $n->collector->spans), $spans + 1, "$path: nothing recorded";
    }
};

subtest 'SSI: one after the other in the page, at the same time at the upstream' => sub {
    my ($spans, undef, $answer) = request('/ssi/two', <<'TREE');
SERVER GET /ssi/* 200
  INTERNAL subrequest /up/* 200
    . url.path = /up/slow1
    . url.query absent
    CLIENT GET 200
  INTERNAL subrequest /up/* 200
    . url.path = /up/2
    . url.query = a=b
    CLIENT GET 200
TREE
    is $answer->{body}, 'ok,ok', 'the page';
    my ($slow, $fast) = sort { $a->{start} <=> $b->{start} } of(INTERNAL => $spans);
    cmp_ok took($slow), '>=', 295, 'the first took its time';
    cmp_ok $fast->{start}, '<', $slow->{end}, 'they ran together';
    cmp_ok took($fast), '<', took($slow), 'the second did not wait to be shown';
};

subtest 'SSI: wait="yes"' => sub {
    my ($spans) = request('/ssi/wait', <<'TREE');
SERVER GET /ssi/* 200
  INTERNAL subrequest /up/* 200
    CLIENT GET 200
  INTERNAL subrequest /up/* 200
    CLIENT GET 200
TREE
    my ($one, $two) = sort { $a->{start} <=> $b->{start} } of(INTERNAL => $spans);
    cmp_ok $two->{start}, '>=', $one->{end}, 'one after the other';
};

subtest 'SSI: a response that is kept in memory' => sub {
    my ($spans, undef, $answer) = request('/ssi/set', <<'TREE');
SERVER GET /ssi/* 200
  INTERNAL subrequest /up/* 200
    CLIENT GET 200
TREE
    is $answer->{body}, '[ok]', 'the page';
    request('/ssi/setbad', <<'TREE');
SERVER GET /ssi/* 200
  INTERNAL subrequest /up/* 502 error=502
    CLIENT GET - error=no_response
TREE
};

subtest 'nested' => sub {
    my (undef, undef, $answer) = request('/ssi/deep', <<'TREE');
SERVER GET /ssi/* 200
  INTERNAL subrequest /ssi/* 200
    INTERNAL subrequest /pages/* 200
      CLIENT GET 200
      INTERNAL subrequest /up/* 200
        . url.path = /up/inner
        CLIENT GET 200
TREE
    is $answer->{body}, 'ok', 'the page';
    request('/ssi/off', <<'TREE');
SERVER GET /ssi/* 200
  CLIENT GET 200
  INTERNAL subrequest /up/* 200
    CLIENT GET 200
TREE
};

subtest 'nested in a place that is not traced: nothing of it all' => sub {
    my (undef, $record, $answer) = $n->recorded(sub { http_get($n->port(1), '/ssi/none') });
    my @spans = $n->trace($record);
    my ($expected, $got) = EdgespanTest::Tree::compare(EdgespanTest::Tree::parse(<<'TREE'), \@spans, {}, sub { $_[0] });
SERVER GET /ssi/* 200
  INTERNAL subrequest /up/* 200
    . url.path = /up/1
    CLIENT GET 200
TREE
    is $got, $expected, 'the spans';
};

subtest 'otel_upstream_span off: the upstream is below the INTERNAL span' => sub {
    request('/ssi/level', <<'TREE');
SERVER GET /ssi/* 200
  INTERNAL subrequest /nospan/* 200
TREE
};

subtest 'a subrequest\'s own redirects and error pages' => sub {
    request('/ssi/bad', <<'TREE');
SERVER GET /ssi/* 200
  INTERNAL subrequest /status/* 502 error=502
    CLIENT GET - error=no_response
  INTERNAL subrequest /missing/* 404
    . url.path = /missing/x
TREE
    request('/ssi/fail', <<'TREE');
SERVER GET /ssi/* 200
  INTERNAL subrequest /failover/* 200
    CLIENT GET - error=no_response
    CLIENT GET 200
TREE
    request('/ssi/accel', <<'TREE');
SERVER GET /ssi/* 200
  INTERNAL subrequest /up/* 200
    . url.path = /up/to/second/x
    CLIENT GET 200
    CLIENT GET 200
TREE
    request('/ssi/local', <<'TREE');
SERVER GET /ssi/* 200
  INTERNAL subrequest /return 200
  INTERNAL subrequest /return 200
    . url.path = /old/x
TREE
};

subtest 'add_before_body, add_after_body' => sub {
    my (undef, undef, $answer) = request('/added', <<'TREE');
SERVER GET /added* 200
  CLIENT GET 200
  INTERNAL subrequest /second/* 200
    . url.path = /second/before
    CLIENT GET 200
  INTERNAL subrequest /second/* 200
    . url.path = /second/after
    CLIENT GET 200
TREE
    is $answer->{body}, 'okokok', 'three in one';
};

subtest 'mirror: ends later than what the client waits for' => sub {
    for my $path ('/mirror/x', '/mirrorfile') {
        my $client = $path eq '/mirror/x' ? "  CLIENT GET 200\n" : '';
        my $route = $path =~ s{/x}{}r;
        my ($spans) = request($path, <<"TREE");
SERVER GET $route* 200
$client  INTERNAL subrequest /mirrored 200 background=1
    CLIENT GET 200
TREE
        my ($server) = of(SERVER => $spans);
        my ($mirror) = of(INTERNAL => $spans);
        cmp_ok $server->{end}, '<', $mirror->{end}, 'SERVER ends first';
        cmp_ok took($mirror), '>=', 295, 'the mirror took its time';
        my ($own) = grep { $_->{parent_span_id} eq $server->{span_id} } of(CLIENT => $spans);
        my $waited = $server->{attrs}{'edgespan.time.upstream_first_byte'} // 0;
        cmp_ok 1000 * $waited, '<=', $own ? took($own) : 0, 'nobody waited for the mirror';
    }
    request('/mirror/x', <<'TREE', method => 'POST', body => 'x' x 100_000);
SERVER POST /mirror* 200
  CLIENT POST 200
  INTERNAL subrequest /mirrored 200 background=1
    . http.request.method = POST
    CLIENT POST 200
TREE
};

subtest 'mirror of a page that itself takes its time' => sub {
    my (undef, undef, $answer) = request('/pagemirror', <<'TREE');
SERVER GET /pagemirror* 200
  INTERNAL subrequest /mirrored 200 background=1
    CLIENT GET 200
  INTERNAL subrequest /up/* 200
    CLIENT GET 200
TREE
    is $answer->{body}, 'begin ok end', 'the page';
};

subtest 'slice: each part is asked for by a subrequest of its own' => sub {
    for my $path ('/slice/x', '/runtime/slice/x', '/if/slice/x') {
        my $route = $path =~ s{/x}{}r;
        my (undef, undef, $answer) = request($path, <<"TREE");
SERVER GET $route* 200
  CLIENT GET 206
  INTERNAL subrequest $route* 200
    . url.path = $path
    CLIENT GET 206
  INTERNAL subrequest $route* 200
    CLIENT GET 206
TREE
        is $answer->{body}, 's' x 30, 'all parts';
    }
    request('/sliceoff/slice', <<'TREE');
SERVER GET /sliceoff* 200
  CLIENT GET 206
  CLIENT GET 206
  CLIENT GET 206
TREE
};

subtest 'a background update of the cache' => sub {
    request('/update/slow', <<'TREE');
SERVER GET /update* 200 cache=MISS
  CLIENT GET 200
TREE
    # The cache counts whole seconds.
    my $from = time;
    wait_for(sub { time > $from + 2.1 }, 10, 'the cache to be stale');
    my ($spans, undef, $answer) = request('/update/slow', <<'TREE');
SERVER GET /update* 200 cache=STALE
  INTERNAL subrequest /update* 200 cache=EXPIRED background=1
    CLIENT GET 200
TREE
    my ($server) = of(SERVER => $spans);
    my ($update) = of(INTERNAL => $spans);
    cmp_ok $server->{end}, '<', $update->{end}, 'SERVER ends first';
    cmp_ok took($update), '>=', 295, 'the update took its time';
};

subtest 'the client leaves while a subrequest is under way' => sub {
    my (undef, $record) = $n->recorded(sub {
        my $before = $other->requests;
        my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $n->port(1)) or die;
        print {$sock} "GET /waiting HTTP/1.1\r\nHost: a\r\n\r\n";
        $sock->flush;
        $other->wait_requests($before + 1);
        close $sock;
    });
    my @spans = $n->trace($record);
    my ($expected, $got) = EdgespanTest::Tree::compare(EdgespanTest::Tree::parse(<<'TREE'), \@spans, {}, sub { $_[0] });
SERVER GET /waiting* - reason=client_closed_request
  INTERNAL subrequest /check/* - reason=client_closed_request
    CLIENT GET - reason=client_closed_request
TREE
    is $got, $expected, 'all of it ended so';
};

$n->lint;
$n->finish;
done_testing;
