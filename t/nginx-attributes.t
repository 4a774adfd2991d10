# What the user puts into spans, and keeps out of them: typed and hashed
# attributes, headers, routes, redaction, other names, the URL of a trace.

use strict;
use warnings;

use Digest::SHA qw(hmac_sha256_hex);
use Test::More;

use EdgespanTest;
use EdgespanTest::NginxTraced;
use EdgespanTest::Upstream;

my $up = EdgespanTest::Upstream->new(respond => sub {
    return "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Route: /users/{id}\r\nX-Two: a\r\nX-Two: b\r\n"
        . "Set-Cookie: sid=secret\r\nContent-Type: application/json\r\nEtag: \"e\"\r\n"
        . "Last-Modified: Mon, 28 Sep 1970 06:00:00 GMT\r\nServer: backend\r\nLocation: /there\r\n\r\nok\n";
});
my $key = 'a key of this test';

my $n = EdgespanTest::NginxTraced->new(vars => { UP => $up->address },
    files => { 'hash.key' => "$key\n", 'html/file' => "file\n", 'html/ssi' => "none\n" },
    http => <<'CONF');
otel_hash_key hash.key;
otel_trace_url "https://ui.example.com/trace/{trace_id}?span={span_id}";
otel_span_attr everywhere 1 int;
map $request_uri $template { ~^/users/\d+ "/users/{id}"; }
large_client_header_buffers 8 32k;

server {
    listen 127.0.0.1:%%PORT1%%;
    listen 127.0.0.1:%%PORT2%% http2;
    server_name edge;
    set_real_ip_from 127.0.0.1;
    real_ip_header X-Real;
    location /types {
        otel_span_attr a.string $arg_s string;
        otel_span_attr a.plain $arg_s;
        otel_span_attr a.int $arg_i int;
        otel_span_attr a.double $arg_d double;
        otel_span_attr a.bool $arg_b bool;
        otel_span_attr a.hash $arg_h hash;
        otel_span_attr http.request.header.x-own $arg_s;
        otel_span_attr http.response.header.x-own $arg_s string;
        return 204;
    }
    location /headers {
        otel_span_header request x-one X-Two authorization cookie x-none;
        otel_span_header response content-type content-length server date x-added transfer-encoding
            last-modified etag location x-none;
        add_header X-Added a;
        add_header X-Added b;
        location /headers/file { alias %%PREFIX%%/html/file; }
        location /headers/up { otel_span_header response x-two set-cookie server content-type etag
            last-modified content-length location; proxy_pass http://%%UP%%; }
        location /headers/moved { return 301 /there; }
        location /headers/quiet { server_tokens off; return 200 ok; }
    }
    location /route/plain { otel_route /plain/:id; return 204; }
    location /users { otel_route $template; return 204;
        location /users/up { otel_route $upstream_http_x_route; proxy_pass http://%%UP%%; } }
    location /route/empty { otel_route $arg_none; return 204; }
    location /route/if { otel_route /outer; if ($arg_x) { otel_route /inner; } return 204; }
    location /route/page { otel_route /inner; error_page 404 /page; root %%PREFIX%%/none; }
    location /page { otel_route /wrong; return 200 page; }
    location /redact {
        otel_redact query=token header=x-one client_address=/16,/48;
        otel_span_header request x-one authorization;
        return 204;
        location /redact/none { otel_redact query= header=; return 204; }
        location /redact/all { otel_redact query=* header=* client_address=off; return 204; }
        location /redact/up { proxy_pass http://%%UP%%; }
        location /redact/gone { error_page 404 /shown; root %%PREFIX%%/none; }
    }
    location = /shown { otel_redact query= client_address=off; return 200 shown; }
    location /guarded { error_page 404 /redact/all; root %%PREFIX%%/none; }
    location /real { otel_redact client_address=/24,/48; return 204; }
    location /url { add_header X-Url $otel_trace_url always; return 204; }
    location /url/off { otel_sampler always_off; add_header X-Url "<$otel_trace_url>" always; return 204; }
    location /url/untraced { otel_trace off; add_header X-Url "<$otel_trace_url>" always; return 204; }
}
server {
    listen 127.0.0.1:%%PORT3%%;
    otel_trace_url "/traces/{trace_id}";
    location / { add_header X-Url $otel_trace_url always; return 204; }
}
CONF
$n->start;

# The SERVER span and the answer of a request.
sub span {
    my ($path, %opt) = @_;
    my $port = $n->port(delete $opt{port} // 1);
    my ($answer, $record) = $n->recorded(sub { http_get($port, $path, %opt) });
    my $span = $n->server_span($record);
    return wantarray ? ($span, $answer, $record) : $span;
}

sub attrs { return span(@_)->{attrs} }

subtest 'types' => sub {
    my $s = span('/types?s=1&i=-42&d=0.25&b=true&h=alice');
    my $a = $s->{attrs};
    is $a->{'a.string'}, '1', 'string';
    is $a->{'a.plain'}, '1', 'string is the default';
    is $a->{'a.int'}, -42, 'int';
    is $a->{'a.double'}, 0.25, 'double';
    ok $a->{'a.bool'}, 'bool';
    is $a->{'a.hash'}, substr(hmac_sha256_hex('alice', $key), 0, 32), 'hash';
    is_deeply $a->{'http.request.header.x-own'}, ['1'], 'a header of that name is an array';
    is $a->{'http.response.header.x-own'}, '1', 'unless its type is given';
    ok !exists $a->{everywhere}, 'the list of a location replaces that of the server';
    $s = span('/types?s=&i=4x&d=x&b=maybe&h=');
    is_deeply [ grep {/^a\.(?:int|double|bool)$/} sort keys %{ $s->{attrs} } ], [],
        'what is no such value is left out';
    is $s->{dropped_attributes_count}, 3, 'and counted';
    is attrs('/page')->{everywhere}, 1, 'elsewhere the list of http{} counts';
};

subtest 'headers of requests' => sub {
    my $a = attrs('/headers/file', headers => [ [ 'X-One', 'a' ], [ 'x-two', 'b' ], [ 'X-TWO', 'c' ],
        [ Authorization => 'Bearer secret' ], [ Cookie => 'sid=secret' ] ]);
    is_deeply $a->{'http.request.header.x-one'}, ['a'], 'one value';
    is_deeply $a->{'http.request.header.x-two'}, [ 'b', 'c' ], 'several values, in order';
    is_deeply $a->{"http.request.header.$_"}, ['REDACTED'], "$_ is not shown"
        for qw(authorization cookie);
    ok !exists $a->{'http.request.header.x-none'}, 'what was not there is not there';
};

subtest 'headers of responses' => sub {
    my ($s, $answer) = span('/headers/file');
    my $a = $s->{attrs};
    for my $name ('Content-Type', 'Content-Length', 'Server', 'Date', 'Last-Modified', 'ETag') {
        is_deeply $a->{ 'http.response.header.' . lc $name }, [ header($answer, $name) ], $name;
    }
    is_deeply $a->{'http.response.header.x-added'}, [ 'a', 'b' ], 'add_header, twice';
    ok !exists $a->{"http.response.header.$_"}, "no $_" for qw(x-none location transfer-encoding);

    ($s, $answer) = span('/headers/up', headers => [ [ 'X-One', 'a' ] ]);
    $a = $s->{attrs};
    for my $name ('X-Two', 'Content-Type', 'ETag', 'Last-Modified', 'Content-Length', 'Server') {
        is_deeply $a->{ 'http.response.header.' . lc $name }, [ header($answer, $name) ], "$name of an upstream";
    }
    like $a->{'http.response.header.location'}[0], qr{/there$}, 'Location of an upstream';
    is_deeply $a->{'http.response.header.set-cookie'}, ['REDACTED'], 'Set-Cookie is not shown';
    ok !exists $a->{'http.request.header.x-one'}, 'the list of a location replaces that of the outer one';

    ($s, $answer) = span('/headers/moved');
    is_deeply $s->{attrs}{'http.response.header.location'}, [ header($answer, 'Location') ], 'Location';
    ($s, $answer) = span('/headers/quiet');
    is_deeply $s->{attrs}{'http.response.header.server'}, ['nginx'], 'server_tokens off';

    my $url = 'http://127.0.0.1:' . $n->port(2) . '/headers/file';
    my ($text, $record) = $n->recorded(sub { `curl -s -i -H 'X-One: h2' --http2-prior-knowledge $url` });
    $a = $n->server_span($record)->{attrs};
    is_deeply $a->{'http.request.header.x-one'}, ['h2'], 'HTTP/2: of the request';
    for my $name ('content-type', 'date', 'server') {
        my ($value) = $text =~ /^$name: (.*?)\r$/m;
        is_deeply $a->{"http.response.header.$name"}, [$value], "HTTP/2: $name";
    }
    my ($old, $bare) = $n->recorded(sub { http_raw($n->port(1), "GET /headers/file\r\n") });
    ok !exists $n->server_span($bare)->{attrs}{'http.request.header.x-one'}, 'HTTP/0.9 has none';
};

subtest 'routes' => sub {
    for my $case ([ '/route/plain', '/plain/:id' ], [ '/users/42', '/users/{id}' ],
        [ '/users/up/1', '/users/{id}' ], [ '/users/x', '/users*' ], [ '/route/empty', '/route/empty*' ],
        [ '/route/if', '/outer' ], [ '/route/if?x=1', '/inner' ], [ '/route/page', '/inner' ]) {
        my $s = span($case->[0]);
        is $s->{attrs}{'http.route'}, $case->[1], "$case->[0]: http.route";
        is $s->{name}, "GET $case->[1]", 'and the name';
    }
};

subtest 'redaction' => sub {
    my @secret = (headers => [ [ 'X-One', 's' ], [ Authorization => 'Bearer s' ] ]);
    my $a = attrs('/redact?token=s&sig=1&a=b', @secret);
    is $a->{'url.query'}, 'token=REDACTED&sig=1&a=b', 'keys that are given replace the default ones';
    is_deeply $a->{'http.request.header.x-one'}, ['REDACTED'], 'so do headers';
    is_deeply $a->{'http.request.header.authorization'}, ['Bearer s'], 'for better or worse';
    is $a->{$_}, '127.0.0.0', "$_ is masked" for qw(client.address network.peer.address);
    $a = attrs('/redact/none?sig=1', @secret);
    is $a->{'url.query'}, 'sig=1', 'none';
    is $a->{'client.address'}, '127.0.0.0', 'what is not given is inherited';
    $a = attrs('/redact/all?a=b', @secret);
    is $a->{'url.query'}, 'a=REDACTED', 'all keys';
    is_deeply $a->{'http.request.header.x-one'}, ['REDACTED'], 'all headers';
    is $a->{'client.address'}, '127.0.0.1', 'client_address=off';
    is attrs('/page?sig=1&a=b')->{'url.query'}, 'sig=REDACTED&a=b', 'the default';
    $a = attrs('/real', headers => [ [ 'X-Real', '192.0.2.77' ] ]);
    is $a->{'client.address'}, '192.0.2.0', 'behind realip the client is masked';
    is $a->{'network.peer.address'}, '127.0.0.1', 'and the proxy before us is not';

    $a = attrs('/redact/gone?token=s&b=c');
    is $a->{'url.query'}, 'token=REDACTED&b=c', 'an error page does not show what the place hides';
    is $a->{'client.address'}, '127.0.0.0', 'nor whose request it was';
    is attrs('/guarded?b=c')->{'url.query'}, 'b=REDACTED', 'nor what its own place hides';

    my ($answer, $record) = $n->recorded(sub { http_get($n->port(1), '/redact/up?token=s&b=c') });
    my ($client) = grep { $_->{kind} eq 'CLIENT' } $n->trace($record, 2);
    like $client->{attrs}{'url.full'}, qr{\?token=REDACTED&b=c$}, 'CLIENT spans as well';
    is $client->{attrs}{'network.peer.address'}, '127.0.0.1', 'but for the address of an upstream';
};

subtest '$otel_trace_url' => sub {
    my ($s, $answer) = span('/url');
    is header($answer, 'X-Url'), "https://ui.example.com/trace/$s->{trace_id}?span=$s->{span_id}", 'of the server';
    ($s, $answer) = span('/', port => 3);
    is header($answer, 'X-Url'), "/traces/$s->{trace_id}", 'of another server';
    is header(http_get($n->port(1), $_), 'X-Url'), '<>', "$_: empty" for qw(/url/off /url/untraced);
};

subtest 'the names of the old conventions' => sub {
    for my $words ('old', 'both') {
        my $other = EdgespanTest::NginxTraced->new(http => "otel_semconv $words;\n"
            . 'server { listen 127.0.0.1:%%PORT1%%; location /a { return 200 ok; } }')->start;
        my ($answer, $record) = $other->recorded(sub { http_get($other->port(1), '/a/b?c=d') });
        my $a = $other->server_span($record)->{attrs};
        is $a->{'http.method'}, 'GET', "$words: http.method";
        is $a->{'http.target'}, '/a/b?c=d', 'http.target';
        is $a->{'http.status_code'}, 200, 'http.status_code';
        is exists $a->{'http.request.method'}, $words eq 'both', 'http.request.method';
        is exists $a->{'url.path'}, $words eq 'both', 'url.path';
        $other->finish;
    }
};

$n->lint;
$n->finish;
done_testing;
