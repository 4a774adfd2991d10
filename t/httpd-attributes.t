# httpd: what directives add to spans and hide in them: OtelSpanAttr, OtelSpanHeader,
# OtelRoute, OtelRedact, OtelHashKey, OtelSemconv, OtelTraceUrl.

use strict;
use warnings;

use Digest::SHA qw(hmac_sha256);
use Test::More;

use EdgespanTest;
use EdgespanTest::HttpdTraced;

my $KEY = join '', map { chr 33 + $_ } 0 .. 31;

# A hash as the documentation says.
sub hashed { return unpack 'H32', hmac_sha256($_[0], $KEY) }

sub attr {
    my ($span, $key) = @_;
    return $span->{attrs}{$key};
}

subtest 'attributes with types' => sub {
    my $s = traced(files => { key => "$KEY\n", 'html/t/x' => 'x', 'html/u' => 'u' }, http => <<'END')->start;
OtelHashKey key
OtelSpanAttr outer 1
<Location /t>
OtelSpanAttr text "%{HTTP:X-V}" string
OtelSpanAttr int "%{HTTP:X-V}" int
OtelSpanAttr double "%{HTTP:X-V}" double
OtelSpanAttr bool "%{HTTP:X-B}" bool
OtelSpanAttr user.id "%{HTTP:X-User}" hash
OtelSpanAttr twice 1 int
OtelSpanAttr twice 2
</Location>
<If "%{HTTP:X-If} == 'yes'">
OtelSpanAttr conditional yes
</If>
END
    my $span = get($s, '/t/x', headers => [
        [ 'X-V' => '42' ], [ 'X-B' => 'true' ], [ 'X-User' => 'alice' ] ]);
    is attr($span, 'text'), '42', 'a string';
    is $span->{attr_types}{text}, 'string', 'by type, too';
    is attr($span, 'int'), 42, 'an integer';
    is $span->{attr_types}{int}, 'int', 'by type, too';
    is attr($span, 'double'), 42, 'a number';
    is $span->{attr_types}{double}, 'double', 'by type, too';
    ok attr($span, 'bool'), 'a truth';
    is $span->{attr_types}{bool}, 'bool', 'by type, too';
    is attr($span, 'user.id'), hashed('alice'), 'a keyed hash';
    is attr($span, 'twice'), '2', 'the last line of a key counts';
    is $span->{attr_types}{twice}, 'string', 'with its type';
    ok !exists $span->{attrs}{outer}, "the section's list replaces its parent's";

    $span = get($s, '/t/x', headers => [ [ 'X-V' => '1.5' ], [ 'X-B' => 'maybe' ] ]);
    is attr($span, 'double'), 1.5, 'a fraction';
    ok !exists $span->{attrs}{$_}, "no $_: left out" for qw(int bool);
    is $span->{dropped_attributes_count}, 2, 'and counted';

    $span = get($s, '/u');
    is attr($span, 'outer'), '1', 'elsewhere that of the server';
    $span = get($s, '/u', headers => [ [ 'X-If' => 'yes' ] ]);
    is attr($span, 'conditional'), 'yes', 'by <If>';
    lint($s);
    $s->finish;
};

subtest 'headers' => sub {
    my $s = traced(files => {
        'html/h/x' => 'x',
        'cgi-bin/two' => "#!/bin/sh\necho 'Content-Type: text/x-two'\necho 'X-Two: a'\n"
            . "echo 'Set-Cookie: a=1'\necho 'Set-Cookie: b=2'\necho\n" },
        http => <<'END')->start;
ScriptAlias /h/two %%PREFIX%%/cgi-bin/two
OtelSpanHeader request X-Outer
<Location /h>
OtelSpanHeader request X-Tenant Authorization
OtelSpanHeader response X-Two Content-Type Set-Cookie X-Always
Header add X-Two b
Header always set X-Always "it was"
</Location>
<Location /h/x>
OtelSpanHeader request X-Tenant x-tenant X-Set
OtelSpanAttr http.request.header.x-set mine
</Location>
<Location /h/gone>
Redirect gone /h/gone
</Location>
END
    my $span = get($s, '/h/two', headers => [
        [ 'X-Tenant' => 'a' ], [ 'X-Tenant' => 'b' ], [ Authorization => 'Basic c2VjcmV0' ],
        [ 'X-Outer' => 1 ] ]);
    is_deeply attr($span, 'http.request.header.x-tenant'), ['a, b'],
        'lines of a request, which httpd joins';
    is_deeply attr($span, 'http.request.header.authorization'), ['REDACTED'], 'a secret';
    is_deeply attr($span, 'http.response.header.x-two'), [ 'a', 'b' ], 'lines of a response';
    is_deeply attr($span, 'http.response.header.set-cookie'), [ ('REDACTED') x 2 ], 'secret ones';
    is_deeply attr($span, 'http.response.header.content-type'), ['text/x-two'], 'the type';
    is_deeply attr($span, 'http.response.header.x-always'), ['it was'], 'Header always';
    ok !exists $span->{attrs}{'http.request.header.x-outer'},
        "the section's list replaces its parent's";

    $span = get($s, '/h/x');
    ok !exists $span->{attrs}{'http.request.header.x-tenant'}, 'none: no attribute';
    $span = get($s, '/h/x', headers => [ [ 'X-Tenant' => 'a' ], [ 'X-Set' => 'b' ] ]);
    is_deeply attr($span, 'http.request.header.x-tenant'), ['a'], 'asked for twice';
    is_deeply attr($span, 'http.request.header.x-set'), ['mine'],
        'an attribute of the same name counts, an array as well';
    $span = get($s, '/h/gone');
    is attr($span, 'http.response.status_code'), 410, 'an error';
    is_deeply attr($span, 'http.response.header.x-always'), ['it was'], 'with its headers';
    is_deeply attr($span, 'http.response.header.content-type'), ['text/html; charset=iso-8859-1'],
        'and type';
    lint($s);
    $s->finish;
};

subtest 'routes' => sub {
    my $s = traced(files => { (map { ("html/$_" => 'x') }
            qw(plain/x items/17 auto/x wild/x nested/deep/x out)) }, http => <<'END')->start;
<Location /plain>
Header set X-Any thing
</Location>
<LocationMatch "^/items/(?<id>\d+)$">
OtelRoute "/items/{id}"
</LocationMatch>
SetEnvIf Request_URI "^/auto/(\w)" ROUTE=/auto/:letter
OtelRoute %{reqenv:ROUTE}
<Location /wild>
OtelRoute "/%{REQUEST_METHOD}/w"
</Location>
<Location /nested>
OtelRoute ""
</Location>
<Location /nested/deep>
<If "%{HTTP:X-If} == 'yes'">
OtelRoute /if
</If>
</Location>
END
    my $route = sub {
        my ($path, @more) = @_;
        my $span = get($s, $path, @more);
        my $route = $span->{attrs}{'http.route'};
        is $span->{name}, defined $route ? "GET $route" : 'GET', "$path: the name has it";
        return $route;
    };
    is $route->('/plain/x'), '/plain/*', 'a <Location> without a directive of ours';
    is $route->('/items/17'), '/items/{id}', 'of a <LocationMatch>';
    is $route->('/auto/x'), '/auto/:letter', 'of the environment';
    is $route->('/wild/x'), '/GET/w', 'of an expression';
    is $route->('/nested/deep/x'), '/nested/deep/*', 'the innermost <Location>';
    is $route->('/nested/deep/x', headers => [ [ 'X-If' => 'yes' ] ]), '/if', 'by <If>';
    is $route->('/out'), undef, 'none anywhere';
    $s->finish;
};

subtest 'what is hidden' => sub {
    my $s = traced(files => { (map { ("html/$_" => 'x') } qw(a/x b/x c/x d/x err)) },
        extra => ['remoteip'], http => <<'END')->start;
RemoteIPHeader X-Client
RemoteIPInternalProxy 127.0.0.1
OtelRedact query=token client_address=/24,/48
OtelSpanHeader request X-Secret X-Api-Key
<Location /b>
OtelRedact header=x-secret
</Location>
<Location /c>
OtelRedact query=*
OtelRedact client_address=off
</Location>
<Location /d>
OtelRedact query= header=
ErrorDocument 404 /err
</Location>
<Location /hidden>
OtelRedact query=* header=*
ErrorDocument 404 /err
</Location>
<Location /err>
OtelRedact query= header=
</Location>
<Location /shown>
OtelRedact query= header=
ErrorDocument 404 /guard
</Location>
<Location /guard>
OtelRedact query=*
</Location>
END
    my @headers = (headers => [
        [ 'X-Client' => '192.0.2.77' ], [ 'X-Secret' => 's' ], [ 'X-Api-Key' => 'k' ] ]);
    my $span = get($s, '/a/x?token=1&sig=2&q=3', @headers);
    is attr($span, 'url.query'), 'token=REDACTED&sig=2&q=3', 'a key';
    is attr($span, 'client.address'), '192.0.2.0', 'the end of an address';
    is attr($span, 'network.peer.address'), '127.0.0.1', "not of a proxy's";
    is_deeply attr($span, 'http.request.header.x-api-key'), ['REDACTED'], 'headers by default';
    is_deeply attr($span, 'http.request.header.x-secret'), ['s'], 'others not';

    $span = get($s, '/b/x?token=1', @headers);
    is attr($span, 'url.query'), 'token=REDACTED', 'what a section says not is inherited';
    is_deeply attr($span, 'http.request.header.x-secret'), ['REDACTED'], 'what it says counts';
    is_deeply attr($span, 'http.request.header.x-api-key'), ['k'], 'instead of the default';

    $span = get($s, '/c/x?q=3&r', @headers);
    unlike attr($span, 'url.query'), qr/3/, 'all keys';
    is attr($span, 'client.address'), '192.0.2.77', 'a second line of another kind';

    $span = get($s, '/d/x?token=1', @headers);
    is attr($span, 'url.query'), 'token=1', 'nothing';
    is_deeply attr($span, 'http.request.header.x-api-key'), ['k'], 'no header';

    $span = get($s, '/hidden/x?q=3', @headers);
    is attr($span, 'http.response.status_code'), 404, 'an ErrorDocument';
    unlike attr($span, 'url.query'), qr/3/, 'does not show what the place hides';
    is_deeply attr($span, 'http.request.header.x-secret'), ['REDACTED'], 'nor headers';
    $span = get($s, '/shown/x?q=3', @headers);
    unlike attr($span, 'url.query'), qr/3/, 'nor what its own place hides';
    lint($s);
    $s->finish;
};

subtest 'names of attributes' => sub {
    my $s = traced(http => 'OtelSemconv both')->start;
    my $span = get($s, '/');
    is attr($span, 'http.request.method'), 'GET', 'the stable one';
    is attr($span, 'http.method'), 'GET', 'and the old';
    $s->finish;
};

subtest 'the URL of a trace' => sub {
    my $s = traced(files => { %SCRIPTS, 'html/off/x' => 'x' }, http => <<'END')->start;
ScriptAlias /cgi/ %%PREFIX%%/cgi-bin/
OtelTraceUrl "https://traces.example.com/{trace_id}?span={span_id}"
LogFormat "url=%{OTEL_TRACE_URL}e note=%{OTEL_TRACE_URL}n" url
CustomLog %%PREFIX%%/url.log url
<Location /off>
OtelTrace Off
</Location>
<Location /unsampled>
OtelSampleRate 0%
</Location>
END
    my $last = sub {
        my @lines = split /\n/, slurp($s->prefix . '/url.log') // '';
        return $lines[-1];
    };
    my $span = get($s, '/cgi/env');
    my $url = "https://traces.example.com/$span->{trace_id}?span=$span->{span_id}";
    is env_of($span->{response})->{OTEL_TRACE_URL}, $url, 'for a script';
    is $last->(), "url=$url note=$url", 'for a log';
    recorded($s, sub { http_get($s->port, '/off/x') });
    is $last->(), 'url=- note=-', 'none where nothing is traced';
    recorded($s, sub { http_get($s->port, '/unsampled') });
    is $last->(), 'url= note=', 'empty where nothing is sampled';
    $s->finish;
};

done_testing;
