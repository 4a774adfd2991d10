# Beside other modules of nginx, as Debian has them: lua, njs, headers-more, geoip2,
# image filter, mail, stream; our own loaded first, and last.

use strict;
use warnings;

use IO::Socket::INET;
use Test::More;

use EdgespanTest;
use EdgespanTest::NginxTraced;
use EdgespanTest::Upstream;

my $dir = EdgespanTest::Nginx::system_modules() // '';
# In this order: lua needs ndk.
my @modules = qw(ndk_http ngx_http_lua ngx_http_js ngx_http_headers_more_filter
    ngx_http_geoip2 ngx_http_image_filter ngx_mail ngx_stream);
my %have = map { $_ => -e "$dir/${_}_module.so" } @modules;
$have{ngx_http_lua} &&= $have{ndk_http};
note "not here, so not tested: $_" for grep { !$have{$_} } @modules;
plan skip_all => 'none of the modules is installed: ' . join ', ', @modules
    unless grep {$_} values %have;

my $up = EdgespanTest::Upstream->new;

my %blocks = (
    ngx_mail => 'mail { server_name edge; auth_http 127.0.0.1:1; '
        . 'server { listen 127.0.0.1:%%PORT3%%; protocol smtp; } }',
    ngx_stream => 'stream { server { listen 127.0.0.1:%%PORT2%%; proxy_pass 127.0.0.1:%%PORT1%%; } }',
);
my %places = (
    ngx_http_lua => <<'CONF',
        location /lua/content { content_by_lua_block { ngx.say(ngx.var.otel_trace_id) } }
        location /lua/access { access_by_lua_block { ngx.log(ngx.ERR, "from lua") }
            otel_error_events on; proxy_pass http://%%UP%%; }
        location /lua/denied { access_by_lua_block { ngx.exit(403) } proxy_pass http://%%UP%%; }
        location /lua/rewrite { rewrite_by_lua_block { ngx.req.set_uri("/plain", true) } }
        location /lua/exec { content_by_lua_block { ngx.exec("/plain") } }
        location /lua/filter { header_filter_by_lua_block { ngx.header["X-Trace"] = ngx.var.otel_trace_id }
            body_filter_by_lua_block { ngx.arg[1] = string.upper(ngx.arg[1]) }
            log_by_lua_block { ngx.log(ngx.ERR, "logged ", ngx.var.otel_span_id) }
            proxy_pass http://%%UP%%; }
        location /lua/capture { content_by_lua_block {
            local r = ngx.location.capture("/sub?n=1")
            ngx.print(r.status, " ", r.body) } }
        location /lua/multi { content_by_lua_block {
            local a, b = ngx.location.capture_multi({ { "/sub?n=1" }, { "/sub?n=2" } })
            ngx.print(a.body, b.body) } }
        location /lua/nested { content_by_lua_block { ngx.print(ngx.location.capture("/lua/capture").body) } }
        location /lua/timer { content_by_lua_block {
            ngx.timer.at(0, function() ngx.log(ngx.ERR, "from a timer") end)
            ngx.say("ok") } }
        location /lua/balancer { proxy_pass http://by_lua; }
CONF
    ngx_http_js => <<'CONF',
        location /js/content { js_content main.content; }
        location /js/subrequest { js_content main.sub; }
        location /js/variable { add_header X-Js $from_js; return 204; }
CONF
    ngx_http_headers_more_filter => <<'CONF',
        location /more { more_set_input_headers "X-In: set"; more_set_headers "X-Out: set" "Server: other";
            otel_span_header request x-in; otel_span_header response x-out server; proxy_pass http://%%UP%%; }
        location /more/context { more_clear_input_headers traceparent tracestate; proxy_pass http://%%UP%%; }
CONF
    ngx_http_image_filter => <<'CONF',
        location /image { image_filter size; alias %%PREFIX%%/html/image.gif; }
        location /image/none { image_filter test; alias %%PREFIX%%/html/text; }
CONF
);
my %http = (
    ngx_http_lua => 'upstream by_lua { server 0.0.0.1; balancer_by_lua_block { '
        . 'assert(require("ngx.balancer").set_current_peer("127.0.0.1", %%UPPORT%%)) } }',
    ngx_http_js => 'js_path %%PREFIX%%; js_import main.js; js_set $from_js main.variable;',
);

sub tree {
    my ($spans, $id, $depth) = @_;
    return map { my $s = $_;
        my $name = $s->{kind} eq 'CLIENT' ? $s->{kind} : "$s->{kind} $s->{name}";
        ('  ' x $depth . $name, tree($spans, $s->{span_id}, $depth + 1)) }
        sort { $a->{start} <=> $b->{start} } grep { $_->{parent_span_id} eq $id } @$spans;
}

# What upstreams saw: the ids of the CLIENT spans.
sub parents_seen {
    my ($from) = @_;
    my @requests = $up->requests;
    return sort map { (EdgespanTest::Upstream::header_values($_, 'traceparent'))[0] =~ /-([0-9a-f]{16})-/ }
        @requests[ $from .. $#requests ];
}

for my $place (qw(first last)) {
    my $load = join '', map {"load_module $dir/${_}_module.so;\n"} grep { $have{$_} } @modules;
    $load .= 'load_module ' . module_nginx() . ";\n" if $place eq 'last';
    my $n = EdgespanTest::NginxTraced->new(module => $place eq 'first',
        main => $load . join("\n", map { $have{$_} ? $blocks{$_} : () } sort keys %blocks),
        vars => { UP => $up->address, UPPORT => $up->port },
        files => { 'html/text' => "no image\n", 'html/image.gif' => pack('H*',
                '47494638396101000100800000ffffff00000021f90400000000002c00000000010001000002024401003b'),
            'main.js' => <<'JS' },
function content(r) { r.return(200, r.variables.otel_trace_id); }
async function sub(r) {
    let a = await r.subrequest('/sub', 'n=1');
    let b = await r.subrequest('/sub', 'n=2');
    r.return(200, a.responseText + b.responseText);
}
function variable(r) { return 'js ' + r.variables.otel_span_id; }
export default {content, sub, variable};
JS
        http => join("\n", map { $have{$_} ? $http{$_} // '' : () } @modules) . <<'CONF'
        server { listen 127.0.0.1:%%PORT1%%;
            location /plain { return 200 plain; }
            location /sub { proxy_pass http://%%UP%%; }
CONF
        . join('', map { $have{$_} ? $places{$_} // '' : () } @modules) . '}')->start;
    my $port = $n->port(1);

    # The answer, the record, the SERVER span and what hangs below it.
    my $traced = sub {
        my ($path, $count, %opt) = @_;
        my $seen = () = $up->requests;
        my ($answer, $record) = $n->recorded(sub { http_get($port, $path, %opt) });
        my @spans = $n->trace($record, $count);
        my ($server) = grep { $_->{span_id} eq $record->{span} } @spans;
        is_deeply [ parents_seen($seen) ], [ sort map { $_->{span_id} } grep { $_->{kind} eq 'CLIENT' } @spans ],
            'upstreams see the ids of CLIENT spans';
        return ($answer, $server, [ tree(\@spans, $server->{parent_span_id}, 0) ], $record);
    };

    subtest "$place: nothing of them" => sub {
        my ($answer, $server, $tree) = $traced->('/sub', 2);
        is_deeply $tree, [ 'SERVER GET /sub*', '  CLIENT' ], 'a request';
    };

    subtest "$place: lua" => sub {
        plan skip_all => 'libnginx-mod-http-lua is not installed' unless $have{ngx_http_lua};
        my ($answer, $server, $tree, $record) = $traced->('/lua/content', 1);
        is $answer->{body}, "$server->{trace_id}\n", 'variables in content_by_lua';
        my $mark = $n->log_mark;
        ($answer, $server, $tree) = $traced->('/lua/access', 2);
        like $n->log_since($mark), qr/from lua.*, trace_id: $server->{trace_id}, span_id: $server->{span_id}$/m,
            'a line of ngx.log has the ids';
        like $server->{events}[0]{attrs}{'log.message'}, qr/from lua/, 'and is an event';
        is_deeply $tree, [ 'SERVER GET /lua/access*', '  CLIENT' ], 'access_by_lua';
        ($answer, $server) = $traced->('/lua/denied', 1);
        is $server->{attrs}{'http.response.status_code'}, 403, 'ngx.exit in access_by_lua';
        ($answer, $server) = $traced->('/lua/rewrite', 1);
        is "$answer->{body} $server->{name}", 'plain GET /plain*', 'ngx.req.set_uri with a jump';
        ($answer, $server) = $traced->('/lua/exec', 1);
        is "$answer->{body} $server->{name}", 'plain GET /lua/exec*', 'ngx.exec is a redirect';
        $mark = $n->log_mark;
        ($answer, $server, $tree) = $traced->('/lua/filter', 2);
        is header($answer, 'X-Trace'), $server->{trace_id}, 'header_filter_by_lua';
        is $answer->{body}, "OK\n", 'body_filter_by_lua';
        like $n->log_since($mark), qr/logged $server->{span_id}/, 'log_by_lua';
        ($answer, $server, $tree) = $traced->('/lua/capture', 3);
        is $answer->{body}, "200 ok\n", 'ngx.location.capture';
        is_deeply $tree, [ 'SERVER GET /lua/capture*', '  INTERNAL subrequest /sub*', '    CLIENT' ], 'its tree';
        ($answer, $server, $tree) = $traced->('/lua/multi', 5);
        is $answer->{body}, "ok\nok\n", 'ngx.location.capture_multi';
        is_deeply $tree, [ 'SERVER GET /lua/multi*', ('  INTERNAL subrequest /sub*', '    CLIENT') x 2 ], 'its tree';
        ($answer, $server, $tree) = $traced->('/lua/nested', 4);
        is_deeply $tree, [ 'SERVER GET /lua/nested*', '  INTERNAL subrequest /lua/capture*',
            '    INTERNAL subrequest /sub*', '      CLIENT' ], 'a capture within a capture';
        $mark = $n->log_mark;
        $traced->('/lua/timer', 1);
        my $line = $n->wait_log(qr/from a timer/, 30, $mark);
        unlike $line, qr/trace_id/, 'a timer is of no request';
        ($answer, $server, $tree) = $traced->('/lua/balancer', 2);
        is $answer->{status}, 200, 'balancer_by_lua';
        is_deeply $tree, [ 'SERVER GET /lua/balancer*', '  CLIENT' ], 'its tree';
    };

    subtest "$place: njs" => sub {
        plan skip_all => 'libnginx-mod-http-js is not installed' unless $have{ngx_http_js};
        my ($answer, $server, $tree) = $traced->('/js/content', 1);
        is $answer->{body}, $server->{trace_id}, 'variables in js_content';
        ($answer, $server, $tree) = $traced->('/js/subrequest', 5);
        is $answer->{body}, "ok\nok\n", 'r.subrequest()';
        is_deeply $tree, [ 'SERVER GET /js/subrequest*', ('  INTERNAL subrequest /sub*', '    CLIENT') x 2 ], 'its tree';
        ($answer, $server) = $traced->('/js/variable', 1);
        is header($answer, 'X-Js'), "js $server->{span_id}", 'js_set';
    };

    subtest "$place: headers-more" => sub {
        plan skip_all => 'libnginx-mod-http-headers-more-filter is not installed'
            unless $have{ngx_http_headers_more_filter};
        my ($answer, $server) = $traced->('/more', 2);
        is_deeply $server->{attrs}{'http.request.header.x-in'}, ['set'], 'a header that it sets';
        is_deeply $server->{attrs}{'http.response.header.x-out'}, ['set'], 'and one of the response';
        is_deeply $server->{attrs}{'http.response.header.server'}, [ header($answer, 'Server') ], 'also Server';
        my ($T, $P) = ('0af7651916cd43dd8448eb211c80319c', 'b9c7c989f97918e1');
        ($answer, $server) = $traced->('/more/context', 2, headers => [ [ traceparent => "00-$T-$P-01" ] ]);
        is $server->{trace_id}, $T, 'what it clears was read before, and ours goes on';
    };

    subtest "$place: image filter" => sub {
        plan skip_all => 'libnginx-mod-http-image-filter is not installed' unless $have{ngx_http_image_filter};
        my ($answer, $server) = $traced->('/image', 1);
        like $answer->{body}, qr/"width": 1/, 'an image';
        is $server->{attrs}{'http.response.status_code'}, 200, 'its status';
        ($answer, $server) = $traced->('/image/none', 1);
        is $answer->{status}, 415, 'no image: the filter refuses';
        is $server->{attrs}{'http.response.status_code'}, 415, 'its status';
        is $server->{name}, 'GET /image/none*', 'its name';
    };

    subtest "$place: stream, mail" => sub {
        plan skip_all => 'libnginx-mod-stream, libnginx-mod-mail are not installed'
            unless $have{ngx_stream} && $have{ngx_mail};
        my ($answer, $record) = $n->recorded(sub { http_get($n->port(2), '/plain') });
        is $n->server_span($record)->{name}, 'GET /plain*', 'a request by way of stream';
        my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $n->port(3)) or die $!;
        like scalar <$sock>, qr/^220 edge ESMTP/, 'mail answers';
        print {$sock} "QUIT\r\n";
        like scalar <$sock>, qr/^221 /, 'and ends';
    };
    $n->lint;
    $n->finish;
}

done_testing;
