# httpd: what places say about the SERVER span, and which place counts.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::HttpdTraced;

my $TRACE       = '4bf92f3577b34da6a3ce929d0e0e4736';
my $TRACEPARENT = "00-$TRACE-00f067aa0ba902b7-01";

sub untraced {
    my ($s, @get) = @_;
    my $record = recorded($s, sub { http_get($s->port, @get) });
    return $record->{trace} eq '-' && $record->{span} eq '-';
}

# --- Tests ----------------------------------------------------------------

subtest 'internal redirects' => sub {
    my $s = traced(trace => undef, files => { %SCRIPTS,
        'html/error.txt' => "sorry\n", 'html/dir/index.html' => 'i',
        'html/target.txt' => "target\n" }, http => <<'END')->start;
ScriptAlias /cgi/ %%PREFIX%%/cgi-bin/
<Location /traced>
OtelTrace On
OtelSpanAttr place traced
</Location>
<Location /dir/>
OtelTrace On
</Location>
<Location /traced/error>
ErrorDocument 404 /error.txt
</Location>
<Location /untraced/error>
ErrorDocument 404 /traced-error.txt
</Location>
<Location /traced-error.txt>
OtelTrace On
</Location>
<Location /traced/denied>
Require all denied
ErrorDocument 403 /error.txt
</Location>
RewriteEngine On
RewriteRule ^/traced/rewritten$ /target.txt [PT]
RewriteRule ^/rewritten$ /traced/target.txt [PT]
<Directory %%PREFIX%%/html/dir>
RewriteEngine On
RewriteRule ^inner$ /dir/index.html
</Directory>
END
    my $span = get($s, '/traced/error?q=1');
    is $span->{attrs}{'http.response.status_code'}, 404, 'ErrorDocument: status';
    is $span->{attrs}{'url.path'}, '/traced/error', 'path of the request';
    is $span->{attrs}{'url.query'}, 'q=1', 'and query';
    is $span->{attrs}{'http.route'}, '/traced/error/*', 'and route';
    is $span->{response}{body}, "sorry\n", 'the document';
    is $span->{attrs}{'http.response.body.size'}, 6, 'its size';
    is $span->{record}{trace}, $span->{trace_id}, 'variables after a redirect';

    $span = get($s, '/untraced/error', headers => [ [ traceparent => $TRACEPARENT ] ]);
    is $span->{attrs}{'http.response.status_code'}, 404,
        'traced by its ErrorDocument only';
    is $span->{trace_id}, $TRACE, 'in the trace of its caller';
    is $span->{attrs}{'url.path'}, '/untraced/error', 'path of the request';

    $span = get($s, '/traced/denied');
    is $span->{attrs}{'http.response.status_code'}, 403,
        'denied, ErrorDocument at an untraced place: still traced';

    $span = get($s, '/dir/');
    is $span->{attrs}{'url.path'}, '/dir/', 'mod_dir: path of the request';
    is $span->{attrs}{'http.response.status_code'}, 200, 'status';
    is $span->{attrs}{'http.route'}, '/dir/*', 'route';
    is get($s, '/dir/inner')->{attrs}{'http.response.status_code'}, 200,
        'mod_rewrite in a directory';
    ok untraced($s, '/traced/rewritten'), 'rewritten to an untraced place';
    is get($s, '/rewritten')->{attrs}{'http.response.status_code'}, 404,
        'rewritten to a traced place';
    ok untraced($s, '/target.txt'), 'an untraced place';
    lint($s);
    $s->finish;
};

subtest 'places, conditions and rates' => sub {
    my $s = traced(trace => 'Off', files => { 'html/sub/x' => 'x' },
        http => <<'END')->start;
SetEnvIf X-Trace "(.*)" TRACE_ME=$1
SetEnvIf X-Rate "(.*)" RATE=$1
<Location /on>
OtelTrace On
</Location>
<Location /on/off>
OtelTrace Off
</Location>
<Location /on/again>
OtelSpanAttr some thing
</Location>
<Directory %%PREFIX%%/html/sub>
OtelTrace On
</Directory>
<Location /value>
OtelTrace expr=%{reqenv:TRACE_ME}
</Location>
<Location /condition>
OtelTrace "expr=%{HTTP:X-Trace} == 'please'"
</Location>
<Location /never>
OtelTrace On
OtelSampleRate 0%
</Location>
<Location /rate>
OtelTrace On
OtelSampleRate expr=%{reqenv:RATE}
</Location>
<LocationMatch "^/items/[0-9]+$">
OtelTrace On
</LocationMatch>
<Location ~ "^/old/(a|b)">
OtelTrace On
</Location>
<Location "/wild/*/x">
OtelTrace On
</Location>
END
    ok untraced($s, '/'), 'off';
    my $span = get($s, '/on');
    is $span->{name}, 'GET /on/*', 'on';
    is $span->{attrs}{'http.route'}, '/on/*', 'route of <Location>';
    ok untraced($s, '/on/off/x'), 'off again below';
    is get($s, '/on/again')->{attrs}{some}, 'thing', 'inherited below';
    $span = get($s, '/sub/x');
    is $span->{name}, 'GET', 'on in <Directory>, which is no route';
    is get($s, '/items/17')->{attrs}{'http.route'}, '^/items/[0-9]+$',
        'route of <LocationMatch>';
    is get($s, '/old/a')->{attrs}{'http.route'}, '^/old/(a|b)',
        'route of <Location ~>';
    is get($s, '/wild/q/x')->{attrs}{'http.route'}, '/wild/*/x',
        'route of a wildcard';

    my $sampled = sub {
        my ($path, @headers) = @_;
        my $record = recorded($s, sub { http_get($s->port, $path, headers => \@headers) });
        return $record->{sampled};
    };
    is $sampled->('/value', [ 'X-Trace', 'on' ]),   1, 'value: on';
    is $sampled->('/value', [ 'X-Trace', '1' ]),    1, 'value: 1';
    is $sampled->('/value', [ 'X-Trace', 'TRUE' ]), 1, 'value: TRUE';
    is $sampled->('/value', [ 'X-Trace', 'yes' ]),  0, 'value: something else';
    is $sampled->('/value'),                        0, 'value: unset';
    is $sampled->('/condition', [ 'X-Trace', 'please' ]), 1, 'condition: true';
    is $sampled->('/condition', [ 'X-Trace', 'on' ]),     0, 'condition: false';
    is $sampled->('/never'),                              0, 'rate 0%';
    is $sampled->('/never', [ traceparent => $TRACEPARENT ]), 1,
        'rate 0% with a sampled parent';
    is $sampled->('/rate', [ 'X-Rate', '100%' ]), 1, 'rate by expression';
    is $sampled->('/rate', [ 'X-Rate', '0' ]),    0, 'rate 0 by expression';
    is $sampled->('/rate', [ 'X-Rate', 'x' ]),    0, 'no rate: not sampled';
    $s->finish;
};

subtest 'names and attributes' => sub {
    my $s = traced(files => \%SCRIPTS, http => <<'END')->start;
ScriptAlias /cgi/ %%PREFIX%%/cgi-bin/
OtelSpanAttr level server
OtelSpanAttr only.server 1
SetEnv LATE late
<Location /a>
OtelSpanName "read %{REQUEST_URI}"
OtelSpanAttr level "first"
OtelSpanAttr level "location %{HTTP_HOST}"
OtelSpanAttr trace "%{reqenv:OTEL_TRACE_ID}"
OtelSpanAttr status "%{REQUEST_STATUS}"
OtelSpanAttr client.address "somebody"
OtelSpanAttr late "%{reqenv:LATE}"
OtelSpanAttr unset "%{reqenv:UNSET}"
</Location>
END
    my $span = get($s, '/');
    is $span->{attrs}{level}, 'server', 'of the server';
    $span = get($s, '/a/b');
    is $span->{name}, 'read /a/b', 'name';
    is $span->{attrs}{level}, 'location localhost', 'the last of one key';
    is $span->{attrs}{'only.server'}, undef, "a section's list replaces";
    is $span->{attrs}{trace}, $span->{trace_id}, 'our own variables';
    is $span->{attrs}{status}, 404, 'the status';
    is $span->{attrs}{'client.address'}, 'somebody', 'replaces ours';
    is $span->{attrs}{late}, 'late', 'SetEnv';
    ok !$span->{attrs}{unset}, 'an unset variable';
    lint($s);
    $s->finish;
};

subtest 'virtual hosts' => sub {
    my $s = traced(http => <<'END')->start;
<VirtualHost *>
ServerName main.example
</VirtualHost>
<VirtualHost *>
ServerName shop.example
OtelServiceName shop
OtelSpanAttr v shop
</VirtualHost>
<VirtualHost *>
ServerName also.example
OtelServiceName shop
OtelTrace Off
<Location /on>
OtelTrace On
</Location>
</VirtualHost>
END
    is get($s, '/', host => 'main.example')->{resource}{'service.name'}, 'edge',
        "the main server's";
    my $span = get($s, '/', host => 'shop.example');
    is $span->{resource}{'service.name'}, 'shop', 'its own';
    is $span->{attrs}{v}, 'shop', 'attribute';
    ok untraced($s, '/', host => 'also.example'), 'off in a virtual host';
    is get($s, '/on', host => 'also.example')->{resource}{'service.name'},
        'shop', 'shared name';
    $s->finish;
};

subtest 'mod_remoteip' => sub {
    my $s = traced(extra => ['remoteip'], http => <<'END')->start;
RemoteIPHeader X-Forwarded-For
RemoteIPInternalProxy 127.0.0.1
END
    my $span = get($s, '/', headers => [ [ 'X-Forwarded-For', '203.0.113.9' ] ]);
    is $span->{attrs}{'client.address'}, '203.0.113.9', 'the client';
    is $span->{attrs}{'network.peer.address'}, '127.0.0.1', 'the peer';
    $s->finish;
};

done_testing;
