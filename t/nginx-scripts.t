# Subrequests of lua and njs: each is an INTERNAL span below the request that made it.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::Nginx;
use EdgespanTest::NginxSubrequests;

my $dir = EdgespanTest::Nginx::system_modules() // '';
my @modules = map {"$dir/$_"} qw(ndk_http_module.so ngx_http_lua_module.so ngx_http_js_module.so);
plan skip_all => 'lua or njs is missing' if grep { !-e } @modules;

my $n = serve(
    main  => join("\n", map {"load_module $_;"} @modules),
    files => { 'x.js' => <<'JS' }, http => <<'CONF');
async function go(r) {
    let a = await r.subrequest('/up/slow'), b = await r.subrequest('/failover/x'),
        c = await r.subrequest('/up/to/second/x');
    r.return(200, a.responseText + b.status + b.responseText + c.responseText);
}
function leave(r) { r.subrequest('/up/slow', { detached: true }); r.return(200, 'x'); }
export default { go, leave };
JS
js_import x from %%PREFIX%%/x.js;
proxy_http_version 1.1;
server {
    listen 127.0.0.1:%%PORT1%%;
    location /up/ { proxy_pass http://%%UP%%; }
    location /second/ { internal; proxy_pass http://%%OTHER%%; }
    location /failover/ { error_page 502 = @second; proxy_pass http://%%UP%%/reset/; }
    location @second { proxy_pass http://%%OTHER%%; }
    location = /js { js_content x.go; }
    location = /js/leave { js_content x.leave; }
    location = /lua { content_by_lua_block {
        local a, b = ngx.location.capture('/up/slow'), ngx.location.capture('/up/to/second/x')
        local c, d = ngx.location.capture_multi({ { '/up/1' }, { '/nested' } })
        ngx.print(a.body, b.body, c.body, d.body)
    } }
    location = /nested { content_by_lua_block { ngx.print('n', ngx.location.capture('/up/n').body) } }
}
CONF

subtest 'njs: awaited, or left alone in the background' => sub {
    my ($spans, undef, $answer) = request('/js', <<'TREE');
SERVER GET /js 200
  INTERNAL subrequest /up/* 200
    . edgespan.background absent
    CLIENT GET 200
  INTERNAL subrequest /failover/* 200
    CLIENT GET - error=no_response
    CLIENT GET 200
  INTERNAL subrequest /up/* 200
    CLIENT GET 200
    CLIENT GET 200
TREE
    is $answer->{body}, 'ok200okok', 'works';
    ($spans) = request('/js/leave', <<'TREE');
SERVER GET /js/leave 200
  INTERNAL subrequest /up/* 200 background=1
    CLIENT GET 200
TREE
    my ($server) = of(SERVER => $spans);
    my ($left) = of(INTERNAL => $spans);
    cmp_ok $server->{end}, '<', $left->{end}, 'SERVER ends first';
};

subtest 'lua: captured, also behind a redirect' => sub {
    my ($spans, undef, $answer) = request('/lua', <<'TREE');
SERVER GET /lua 200
  INTERNAL subrequest /up/* 200
    CLIENT GET 200
  INTERNAL subrequest /up/* 200
    CLIENT GET 200
    CLIENT GET 200
  INTERNAL subrequest /up/* 200
    CLIENT GET 200
  INTERNAL subrequest /nested 200
    INTERNAL subrequest /up/* 200
      CLIENT GET 200
TREE
    is $answer->{body}, 'okokoknok', 'works';
    my ($one, $two) = sort { $a->{start} <=> $b->{start} } of(INTERNAL => $spans);
    cmp_ok $one->{end}, '<=', $two->{start}, 'one after the other';
};

$n->lint;
$n->finish;
done_testing;
