# httpd: what is peculiar to it in headers of the context: scripts,
# subrequests, internal redirects, HTTP/2, the environment.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::HttpdTraced;
use EdgespanTest::Upstream;

my $TRACE       = '4bf92f3577b34da6a3ce929d0e0e4736';
my $PARENT      = '00f067aa0ba902b7';
my $TRACEPARENT = "00-$TRACE-$PARENT-01";

# What a stranger may send: "evil" or the ids are in each value.
my @EVIL = ([ traceparent => $TRACEPARENT ], [ tracestate => 'evil=1' ],
    [ Baggage => 'evil=1' ], [ B3 => "$TRACE-$PARENT-d" ], [ 'X-B3-TraceId' => $TRACE ],
    [ 'X-B3-SpanId' => $PARENT ], [ 'X-B3-ParentSpanId' => $PARENT ],
    [ 'X-B3-Sampled' => '1' ], [ 'X-B3-Flags' => '1' ],
    [ 'uber-trace-id' => "$TRACE:$PARENT:0:3" ], [ 'uberctx-key' => 'evil' ],
    [ 'jaeger-baggage' => 'k=evil' ],
    [ 'X-Amzn-Trace-Id' => "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=$PARENT;Sampled=1" ]);
my $EVIL = qr/evil|$PARENT|77b34da6a3ce929d0e0e4736|B3_SAMPLED|X-B3-Sampled|B3_FLAGS|X-B3-Flags/i;

my $STRANGERS = <<'END';
OtelTrustContext Off
ScriptAlias /cgi/ %%PREFIX%%/cgi-bin/
ScriptAlias /off/ %%PREFIX%%/cgi-bin/
ScriptAlias /ignore/ %%PREFIX%%/cgi-bin/
ScriptAlias /extract/ %%PREFIX%%/cgi-bin/
ProxyPass /up/ http://%%UP%%/
ProxyPass /offup/ http://%%UP%%/
ProxyPass /fastcgi/ fcgi://%%FASTCGI%%/
RequestHeader set X-Copy "expr=%{HTTP:traceparent}%{HTTP:B3}%{HTTP:baggage}"
<LocationMatch "^/off">
OtelTrace Off
</LocationMatch>
<Location /ignore>
OtelTraceContext ignore
</Location>
<Location /extract>
OtelTraceContext extract
</Location>
<Directory %%PREFIX%%/html>
Options +Includes
</Directory>
<FilesMatch \.shtml$>
SetOutputFilter INCLUDES
</FilesMatch>
<Location /missing>
ErrorDocument 404 /cgi/env
</Location>
<Location /offmissing>
ErrorDocument 404 /off/env
</Location>
<Location /denied>
Require all denied
ErrorDocument 403 /ignore/env
</Location>
END

for my $mpm (qw(event prefork)) {
    subtest "a stranger's headers, $mpm" => sub {
        my $up = EdgespanTest::Upstream->new;
        my $fastcgi = EdgespanTest::Upstream->new(protocol => 'fastcgi');
        my $s = traced(mpm => $mpm, extra => ['include'], files => { %SCRIPTS,
                'html/a.shtml' => '<!--#include virtual="/cgi/env" --><!--#include virtual="/up/sub" -->',
                'html/off.shtml' => '<!--#include virtual="/off/env" --><!--#include virtual="/offup/sub" -->' },
            vars => { UP => $up->address, FASTCGI => $fastcgi->address },
            http => $STRANGERS)->start;

        for my $path (qw(/cgi/env /ignore/env /extract/env /missing /denied)) {
            my $span = get($s, $path, headers => \@EVIL);
            unlike $span->{response}{body}, $EVIL, "$path: nothing of them";
            isnt $span->{trace_id}, $TRACE, 'a trace of its own';
            is $span->{parent_span_id}, '', 'a root';
            is_deeply $span->{links}, [], 'no link';
            is $span->{record}{decision}, 'always_on', 'decided here';
        }
        for my $path (qw(/off/env /offmissing)) {
            my $res = http_get($s->port, $path, headers => \@EVIL);
            like $res->{body}, qr/^GATEWAY_INTERFACE=/m, "$path: untraced";
            unlike $res->{body}, $EVIL, 'nothing of them';
        }
        my $env = env_of(get($s, '/cgi/env', headers => \@EVIL)->{response});
        is $env->{HTTP_TRACEPARENT}, "00-$env->{OTEL_TRACE_ID}-$env->{OTEL_SPAN_ID}-03", 'ours';
        is_deeply [ grep {/^HTTP_(?!HOST|CONNECTION|TRACEPARENT|X_COPY)|BAGGAGE/} keys %$env ], [],
            'alone';

        for my $path (qw(/up/x /offup/x /fastcgi/x)) {
            recorded($s, sub { http_get($s->port, $path, headers => \@EVIL) });
        }
        my $res;
        recorded($s, sub { $res = http_get($s->port, '/a.shtml', headers => \@EVIL) });
        unlike $res->{body}, $EVIL, 'a subrequest to a script';
        recorded($s, sub { $res = http_get($s->port, '/off.shtml', headers => \@EVIL) });
        unlike $res->{body}, $EVIL, 'likewise from there to where tracing is off';

        my @requests = ($up->requests, $fastcgi->requests);
        is @requests, 5, 'upstreams were asked';
        unlike $_, $EVIL, (/^(GET \S+)/)[0] // 'FastCGI' for @requests;
        is_deeply [ map { scalar(() = /^traceparent: /mg) } @requests[ 0 .. 3 ] ], [ 1, 0, 1, 0 ],
            'one traceparent where traced';
        lint($s);
        $s->finish;
    };
}

subtest 'a stranger where nothing is traced' => sub {
    my $up = EdgespanTest::Upstream->new;
    my $s = traced(trace => undef, files => \%SCRIPTS, vars => { UP => $up->address }, http => <<'END')->start;
OtelTrustContext Off
ScriptAlias /cgi/ %%PREFIX%%/cgi-bin/
ProxyPass /up/ http://%%UP%%/
RequestHeader set b3 0
END
    my $res = http_get($s->port, '/cgi/env', headers => [ @EVIL, [ 'X-Other' => 'stays' ] ]);
    unlike $res->{body}, $EVIL, 'nothing of its headers';
    is env_of($res)->{HTTP_X_OTHER}, 'stays', 'others stay';
    is env_of($res)->{HTTP_B3}, 0, 'so does what RequestHeader sets';
    http_get($s->port, '/up/x', headers => \@EVIL);
    unlike +($up->requests)[0], $EVIL, 'nor upstream';
    my @spans = $s->{collector}->spans;
    is @spans, 0, 'no span';
    $s->finish;
};

subtest "a client's Connection does not name our headers" => sub {
    my $up = EdgespanTest::Upstream->new;
    my $s = traced(vars => { UP => $up->address }, http => <<'END')->start;
OtelTrustContext expr=%{HTTP:X-Word}
OtelSampleRate 0
ProxyPass /up/ http://%%UP%%/
END
    for my $word (qw(on off)) {
        for my $list ('traceparent', 'close,TraceParent ,x-hop', 'X-Hop, b3, close, traceparent, traceparent') {
            my ($record) = recorded($s, sub { http_get($s->port, '/up/x', headers => [ [ 'X-Word' => $word ],
                [ Connection => $list ], [ 'X-Hop' => 'hop' ] ], timeout => 1) });
            my $bytes = ($up->requests)[-1];
            like $bytes, qr/^traceparent: 00-$record->{trace}-$record->{upstream}-02\r/m,
                "$word, Connection: $list";
            unlike $bytes, qr/hop: hop/i, 'what else it names goes' if $list =~ /hop/i;
        }
    }
    $s->finish;
};

subtest 'whom to believe' => sub {
    my $s = traced(files => \%SCRIPTS, http => <<'END')->start;
SetEnvIf X-Word (.+) word=$1
OtelTrustContext expr=%{reqenv:word}
ScriptAlias /cgi/ %%PREFIX%%/cgi-bin/
<Location /off/>
OtelTrace Off
ErrorDocument 404 /cgi/env
</Location>
END
    my @headers = ([ traceparent => $TRACEPARENT ], [ tracestate => 'evil=1' ]);
    for my $word (qw(on ON)) {
        my $span = get($s, '/cgi/env', headers => [ @headers, [ 'X-Word' => $word ] ]);
        is $span->{parent_span_id}, $PARENT, "$word: the trace goes on";
        like $span->{response}{body}, $EVIL, 'with its tracestate';
    }
    for my $word ('off', 'of course', '') {
        my $span = get($s, '/cgi/env', headers => [ @headers, [ 'X-Word' => $word ] ]);
        is $span->{parent_span_id}, '', "'$word': a root";
        is_deeply $span->{links}, [], 'without a link';
        unlike $span->{response}{body}, $EVIL, 'nothing of the caller';
    }
    my @said = $s->error_log =~ /(OtelTrustContext gives .*)/g;
    is @said, 2, 'what is no word is told';
    like $said[0], qr/^OtelTrustContext gives "of course", which is none of "on", "off" and "link": the client is not believed/,
        'as it is';

    for my $path ('/cgi/env', '/off/missing') {
        my $span = get($s, $path, headers => [ @headers, [ 'X-Word' => 'link' ] ]);
        isnt $span->{trace_id}, $TRACE, "link, $path: a new trace";
        is $span->{parent_span_id}, '', 'a root';
        is_deeply [ map { [ @$_{qw(trace_id span_id trace_state)} ] } @{ $span->{links} } ],
            [ [ $TRACE, $PARENT, '' ] ], 'with a link';
        unlike $span->{response}{body}, $EVIL, 'nothing of the caller goes on';
    }
    lint($s);
    $s->finish;

    $s = traced(http => "OtelTrustContext \"expr=-R '127.0.0.0/8' && %{HTTP:X-Word} != 'no'\"\n")->start;
    is get($s, '/', headers => \@headers)->{trace_id}, $TRACE, 'a condition: true';
    isnt get($s, '/', headers => [ @headers, [ 'X-Word' => 'no' ] ])->{trace_id}, $TRACE, 'and false';
    $s->finish;

    $s = traced(http => <<'END')->start;
OtelTrustContext Off
Listen 127.0.0.1:%%PORT2%%
<VirtualHost *:%%PORT2%%>
OtelTrustContext On
</VirtualHost>
END
    isnt get($s, '/', headers => \@headers)->{trace_id}, $TRACE, 'a server';
    is scalar(recorded($s, sub { http_get($s->port(2), '/', headers => \@headers) }))->{trace}, $TRACE,
        'and its virtual host';
    $s->finish;
};

subtest 'what the client is told' => sub {
    my $up = EdgespanTest::Upstream->new(respond => sub {
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nCache-Control: max-age=60\r\n"
            . "traceresponse: theirs\r\nServer-Timing: db;dur=1\r\n\r\nok\n";
    });
    my $s = traced(extra => [qw(cache cache_disk)], http2 => 1, files => { %SCRIPTS,
            'html/sorry.txt' => 'sorry',
            'cgi-bin/told' => "#!/bin/sh\nprintf 'Content-Type: text/plain\\nTraceresponse: theirs\\nServer-Timing: db\\n\\n'\n" },
        vars => { UP => $up->address }, http => <<'END')->start;
OtelResponseHeader traceresponse
ScriptAlias /cgi/ %%PREFIX%%/cgi-bin/
ScriptAlias /timing/ %%PREFIX%%/cgi-bin/
ProxyPass /up/ http://%%UP%%/
ProxyPass /timing/up/ http://%%UP%%/
CacheRoot %%PREFIX%%/data
CacheEnable disk /up/cached
<Location /timing>
OtelResponseHeader server-timing
</Location>
<Location /silent>
OtelResponseHeader off
</Location>
<Location /rate>
OtelSampleRate 0
</Location>
<Location /redirected>
ErrorDocument 404 /sorry.txt
</Location>
<Location /denied>
Require all denied
</Location>
<Location /moved>
Redirect 302 http://example.org/
</Location>
END
    my $headers = sub {
        my ($res, $name) = @_;
        return [ map { $_->[1] } grep { lc $_->[0] eq $name } @{ $res->{headers} } ];
    };
    my %status = ('/' => 200, '/cgi/told' => 200, '/up/x' => 200, '/none' => 404, '/redirected' => 404,
        '/denied' => 403, '/moved' => 302, '/cgi/bad' => 503);
    for my $path (sort keys %status) {
        my $span = get($s, $path);
        is $span->{record}{status}, $status{$path}, "$path: $status{$path}";
        is_deeply $headers->($span->{response}, 'traceresponse'),
            [ "00-$span->{trace_id}-$span->{span_id}-03" ], 'traceresponse, once';
    }
    my ($record, $res) = recorded($s, sub { http_get($s->port, '/rate/none') });
    is_deeply $headers->($res, 'traceresponse'), [ "00-$record->{trace}-$record->{span}-02" ],
        'not sampled: says so';
    ($record, $res) = recorded($s, sub { http_get($s->port, '/silent/none') });
    is_deeply $headers->($res, 'traceresponse'), [], 'off';

    my %beside = ('/timing/none' => [], '/timing/told' => ['db'], '/timing/up/x' => ['db;dur=1']);
    for my $path (sort keys %beside) {
        my $span = get($s, $path);
        my @timings = map { split /, */ } @{ $headers->($span->{response}, 'server-timing') };
        is_deeply [ sort @timings ],
            [ @{ $beside{$path} }, "trace;desc=00-$span->{trace_id}-$span->{span_id}-03" ],
            "$path: Server-Timing" . (@{ $beside{$path} } ? ' beside the one that is there' : '');
    }

    for my $n (1, 2) {
        my $span = get($s, '/up/cached');
        is_deeply $headers->($span->{response}, 'traceresponse'),
            [ "00-$span->{trace_id}-$span->{span_id}-03" ], "a cache, request $n: its own";
    }
    my @cached = grep {m{/cached}} $up->requests;
    is @cached, 1, 'the second was a hit';

    $res = parse_response(scalar http_raw($s->port, "GET / HTTP/1.1\r\n\r\n"));
    is $res->{status}, 400, 'a malformed request';
    is @{ $headers->($res, 'traceresponse') }, 1, 'is told, too';

    SKIP: {
        skip 'curl has no HTTP/2', 1 unless `curl -V 2>&1` =~ /HTTP2/;
        for my $path ('/', '/none', '/cgi/told') {
            my $record = get_h2($s, $path, '-D', $s->prefix . '/headers');
            my @told = slurp($s->prefix . '/headers') =~ /^traceresponse: (\S+)/mgi;
            is_deeply \@told, [ "00-$record->{trace}-$record->{span}-03" ], "HTTP/2, $path";
        }
    }
    lint($s);
    $s->finish;
};

subtest 'baggage' => sub {
    my $s = traced(files => \%SCRIPTS, http => <<'END')->start;
OtelBaggageAttr tenant user.id both
OtelSpanAttr both ours
ScriptAlias /cgi/ %%PREFIX%%/cgi-bin/
ScriptAlias /inner/ %%PREFIX%%/cgi-bin/
ScriptAlias /off/ %%PREFIX%%/cgi-bin/
Listen 127.0.0.1:%%PORT2%%
<VirtualHost *:%%PORT2%%>
OtelBaggageAllow tenant
ScriptAlias /cgi/ %%PREFIX%%/cgi-bin/
</VirtualHost>
<Location /inner>
OtelBaggageAttr other
OtelBaggageAttr user.id
</Location>
<Location /off>
OtelTrace Off
</Location>
END
    my $text = 'tenant=a%20b;prop=1,user.id=7,both=theirs,other=%C3%A4,empty=,tenant=last';
    my @headers = (headers => [ [ baggage => $text ] ]);
    my $span = get($s, '/cgi/env', @headers);
    is $span->{attrs}{tenant}, 'last', 'an attribute: the last of a key';
    is $span->{attrs}{'user.id'}, '7', 'under its own name';
    is $span->{attrs}{both}, 'ours', "the user's own comes first";
    is $span->{attrs}{other}, undef, 'others are none';
    my $env = env_of($span->{response});
    is_deeply { map { ($_ => $env->{$_}) } grep {/^OTEL_BAGGAGE/} keys %$env },
        { OTEL_BAGGAGE_TENANT => 'last', OTEL_BAGGAGE_USER_ID => 7, OTEL_BAGGAGE_BOTH => 'theirs',
          OTEL_BAGGAGE_OTHER => "\xc3\xa4", OTEL_BAGGAGE_EMPTY => '' }, 'the environment';
    is $env->{HTTP_BAGGAGE}, $text, 'the header as it came';

    $span = get($s, '/inner/env', @headers);
    is $span->{attrs}{tenant}, undef, 'an inner list replaces the outer';
    is $span->{attrs}{'user.id'}, '7', 'its lines add up';
    is env_of(scalar http_get($s->port, '/off/env', @headers))->{OTEL_BAGGAGE_TENANT}, undef, 'untraced: none';

    $env = env_of(http_get($s->port(2), '/cgi/env', @headers));
    is $env->{HTTP_BAGGAGE}, 'tenant=a%20b;prop=1,tenant=last', 'filtered';
    is $env->{OTEL_BAGGAGE_USER_ID}, 7, 'but shown';
    $env = env_of(http_get($s->port, '/cgi/env', headers => [ [ baggage => 'a=1' ], [ baggage => 'b=2' ] ]));
    is $env->{HTTP_BAGGAGE}, 'a=1, b=2', 'two headers are one list';
    is "$env->{OTEL_BAGGAGE_A}$env->{OTEL_BAGGAGE_B}", 12, 'of both';
    lint($s);
    $s->finish;
};

subtest 'many headers, large ones' => sub {
    for my $trust (qw(On Off)) {
        my $s = traced(files => \%SCRIPTS, http => <<"END")->start;
LimitRequestFields 300
LimitRequestFieldSize 65536
OtelTrustContext $trust
OtelPropagators tracecontext baggage b3 b3multi jaeger xray
ScriptAlias /cgi/ %%PREFIX%%/cgi-bin/
END
        my $on = $trust eq 'On';
        my $env = env_of(get($s, '/cgi/env', headers => [ (map { [ "uberctx-k$_" => $_ ] } 1 .. 100),
            (map { [ "X-Other-$_" => $_ ] } 1 .. 100) ])->{response});
        is scalar(grep {/^HTTP_UBERCTX/} keys %$env), $on ? 100 : 0, "$trust: 100 headers of one format";
        is scalar(grep {/^HTTP_X_OTHER/} keys %$env), 100, 'others stay';
        for my $header ([ traceparent => "$TRACEPARENT" . 'x' x 60000 ], [ tracestate => 'a=' . 'x' x 60000 ],
            [ baggage => join ',', map {"key$_=" . 'v' x 100} 1 .. 500 ], [ b3 => 'x' x 60000 ],
            [ 'X-Amzn-Trace-Id' => 'Root=' . 'x' x 60000 ], [ 'uber-trace-id' => ':' x 60000 ]) {
            my $span = get($s, '/cgi/env', headers => [ $header ]);
            is $span->{response}{status}, 200, "$trust: a large $header->[0]";
            $env = env_of($span->{response});
            my @shown = grep {/^OTEL_BAGGAGE/} keys %$env;
            cmp_ok @shown, $on && $header->[0] eq 'baggage' ? '>' : '==', 0, scalar(@shown) . ' members';
            cmp_ok @shown, '<=', 64, 'of 64';
        }
        lint($s);
        $s->finish;
    }
};

subtest '.htaccess' => sub {
    my $s = traced(allow => qr/not allowed here/, files => { 'html/d/.htaccess' => "OtelSampler always_on\n", 'html/d/x' => '' },
        http => "<Directory %%PREFIX%%/html>\nAllowOverride All\n</Directory>\n")->start;
    is http_get($s->port, '/d/x')->{status}, 500, 'takes none of the directives';
    wait_for(sub { $s->error_log =~ /OtelSampler not allowed here/ }, 5, 'the reason');
    $s->finish;
};

done_testing;
