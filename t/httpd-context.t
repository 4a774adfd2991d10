# httpd: what is peculiar to it in context and sampling: scripts, subrequests,
# internal redirects, sections, HTTP/2, the environment.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::HttpdTraced;
use EdgespanTest::Otlp;
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

my $ENV = "#!/bin/sh\necho 'Content-Type: text/plain'\necho\nenv\n";
my %CGI = ('cgi-bin/env' => $ENV,
    'cgi-bin/slow' => "#!/bin/sh\nsleep 0.4\necho 'Content-Type: text/plain'\necho\necho slow\n",
    'cgi-bin/long' => "#!/bin/sh\necho 'Content-Type: text/plain'\necho\nhead -c 100000 /dev/zero\nsleep 0.4\necho end\n",
    'cgi-bin/bad'  => "#!/bin/sh\necho 'Status: 503 busy'\necho\n");

sub env_of {
    my ($res) = @_;
    return +{ $res->{body} =~ /^(\w+)=(.*)$/mg };
}

# Of the servers of a file: a line of the configuration, as OTEL_DECISION names it.
sub line_of {
    my ($s, $text) = @_;
    my @lines = split /\n/, slurp($s->prefix . '/httpd.conf');
    my ($n) = grep { $lines[$_] =~ /^\s*\Q$text\E$/ } 0 .. $#lines;
    return 'httpd.conf:' . ($n + 1);
}

sub not_exported {
    my ($s, $record, $name) = @_;
    get($s, '/all.txt');    # a later span has come: so would have an earlier
    my @none = $s->{collector}->spans(span_id => $record->{span});
    is @none, 0, $name;
}

sub lint {
    my ($s) = @_;
    my @spans = $s->{collector}->spans;
    is join("\n", EdgespanTest::Otlp::lint(\@spans)), '', @spans . ' spans keep the rules';
}

sub curl_h2 {
    my ($s, $path, @more) = @_;
    return scalar recorded($s, sub {
        system 'curl', '-s', '-o', '/dev/null', '--http2-prior-knowledge', @more,
            "http://127.0.0.1:@{[$s->port]}$path";
    });
}

# --- Tests ----------------------------------------------------------------

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
        my $s = traced(mpm => $mpm, extra => ['include'], files => { %CGI,
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
    my $s = traced(trace => undef, files => \%CGI, vars => { UP => $up->address }, http => <<'END')->start;
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
    my $s = traced(files => \%CGI, http => <<'END')->start;
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

subtest 'samplers and rates of sections' => sub {
    my $s = traced(files => { map { ("html/$_/x" => '') } qw(on off rate expr inner target) },
        http => <<'END')->start;
OtelSampleRate expr=%{HTTP:X-Rate}
SetEnvIf X-Rate (.+) rate=$1
<Location /on>
OtelSampler always_on
</Location>
<Location /off>
OtelSampler parentbased_always_off
</Location>
<Location /rate>
OtelSampleRate 0
</Location>
<Directory %%PREFIX%%/html/expr>
OtelSampleRate expr=%{reqenv:rate}
</Directory>
<Location /inner>
OtelSampler traceidratio
</Location>
<Location /target>
OtelSampleTarget 1000r/s
</Location>
<If "%{HTTP:X-Debug} == '1'">
OtelSampler parentbased_always_on
</If>
<If "%{HTTP:X-Quiet} == '1'">
OtelSampleRate 0%
</If>
END
    my $decision = sub {
        my ($path, @headers) = @_;
        return scalar(recorded($s, sub { http_get($s->port, $path, headers => \@headers) }))->{decision};
    };
    my %at = map { $_ => line_of($s, $_) } 'OtelSampleRate expr=%{HTTP:X-Rate}', 'OtelSampleRate 0',
        'OtelSampleRate expr=%{reqenv:rate}', 'OtelSampler always_on', 'OtelSampler parentbased_always_on', 'OtelSampler parentbased_always_off',
        'OtelSampleTarget 1000r/s', 'OtelSampleRate 0%';
    my ($on, $off) = map { [ traceparent => "00-$TRACE-$PARENT-0$_" ] } 1, 0;

    is $decision->('/', [ 'X-Rate' => 1 ]), "ratio=1 ($at{'OtelSampleRate expr=%{HTTP:X-Rate}'})", 'expr';
    is $decision->('/', [ 'X-Rate' => 'x' ]), "drop ratio=0 ($at{'OtelSampleRate expr=%{HTTP:X-Rate}'})", 'no rate';
    is $decision->('/', [ 'X-Rate' => 0 ], $on), 'parent', 'a parent';
    is $decision->('/', [ 'X-Rate' => 1 ], $off), 'drop parent', 'of either mind';
    is $decision->('/on/x', [ 'X-Rate' => 0 ], $off), "always_on ($at{'OtelSampler always_on'})", 'always_on';
    is $decision->('/off/x', [ 'X-Rate' => 1 ]), "drop always_off ($at{'OtelSampler parentbased_always_off'})", 'always_off';
    is $decision->('/off/x', [ 'X-Rate' => 0 ], $on), 'parent', 'with a parent';
    is $decision->('/rate/x', [ 'X-Rate' => 1 ]), "drop ratio=0 ($at{'OtelSampleRate 0'})", 'a constant inside';
    is $decision->('/expr/x', [ 'X-Rate' => '100%' ]), "ratio=1 ($at{'OtelSampleRate expr=%{reqenv:rate}'})", 'a directory';
    is $decision->('/inner/x', [ 'X-Rate' => 1 ], $off), "ratio=1 ($at{'OtelSampleRate expr=%{HTTP:X-Rate}'})",
        "another sampler, the outer rate";
    is $decision->('/target/x', [ 'X-Rate' => 0 ]), "target=1 ($at{'OtelSampleTarget 1000r/s'})", 'a target';
    is $decision->('/off/x', [ 'X-Debug' => 1 ]), "always_on ($at{'OtelSampler parentbased_always_on'})", '<If> in <Location>';
    is $decision->('/on/x', [ 'X-Quiet' => 1 ]), "drop ratio=0 ($at{'OtelSampleRate 0%'})", 'a rate inside of always_on';
    $s->finish;
};

subtest 'redirects switch on, never off' => sub {
    my $s = traced(files => { 'html/drop/x' => '', 'html/keep/x' => 'kept', 'html/all/x' => 'all' },
        http => <<'END')->start;
OtelSampleRate 0
<Location /all>
OtelSampleRate 1
</Location>
<Directory %%PREFIX%%/html/drop>
RewriteEngine On
RewriteRule ^up$ /all/x
</Directory>
<Directory %%PREFIX%%/html/all>
RewriteEngine On
RewriteRule ^down$ /keep/x
</Directory>
END
    is get($s, '/drop/up')->{record}{sampled}, 1, 'rewritten to a place that samples';
    my $span = get($s, '/all/down', headers => [ [ traceparent => 'none' ] ]);
    is $span->{record}{sampled}, 1, 'from there to one that does not';
    is $span->{response}{body}, 'kept', 'arrived';
    $s->finish;
};

subtest 'a limit: what is shown is what is done' => sub {
    my $up = EdgespanTest::Upstream->new;
    my $s = traced(files => \%CGI, vars => { UP => $up->address }, http => <<'END')->start;
OtelSampleLimit 1r/m burst=2
ScriptAlias /cgi/ %%PREFIX%%/cgi-bin/
ScriptAlias /extract/ %%PREFIX%%/cgi-bin/
ProxyPass /up/ http://%%UP%%/
<Location /extract>
OtelTraceContext extract
</Location>
<Location /free>
OtelSampleRate 0
</Location>
END
    my $limit = 'limit (' . line_of($s, 'OtelSampleLimit 1r/m burst=2') . ')';
    is get($s, "/$_/env")->{record}{decision}, 'always_on', "$_: within" for qw(cgi extract);
    for my $path (qw(/cgi/env /extract/env)) {
        my ($record, $res) = recorded($s, sub { http_get($s->port, $path, headers => [ [ traceparent => $TRACEPARENT ] ]) });
        is $record->{decision}, $limit, "$path: over it";
        is $record->{sampled}, 0, 'in the log';
        my $env = env_of($res);
        is $env->{OTEL_SAMPLED}, 0, 'in the environment';
        is $env->{OTEL_DECISION}, $limit, 'why';
        is $env->{HTTP_TRACEPARENT}, $path =~ /cgi/ ? "00-$TRACE-$record->{span}-00" : $TRACEPARENT,
            'in the header';
    }
    recorded($s, sub { http_get($s->port, '/up/x') });
    like +($up->requests)[0], qr/^traceparent: 00-\w+-\w+-02\r/m, 'upstream';
    my @spans = $s->{collector}->spans(kind => 'SERVER');
    is @spans, 2, 'two spans';
    $s->finish;
};

subtest 'kept at the end' => sub {
    my $up = EdgespanTest::Upstream->new(respond => sub {
        my ($bytes) = @_;
        return "HTTP/1.1 500 x\r\nContent-Length: 2\r\n\r\nno" if $bytes =~ m{^GET /500};
        return [ delay => 0.4 ], "HTTP/1.1 200 x\r\nContent-Length: 2\r\n\r\nok" if $bytes =~ m{^GET /slow};
        return "HTTP/1.1 200 x\r\nContent-Length: 100\r\n\r\nshort", 'close' if $bytes =~ m{^GET /short};
        return "HTTP/1.1 200 x\r\nContent-Length: 2\r\n\r\nok";
    });
    my $dead = '127.0.0.1:' . free_port();
    my $s = traced(http2 => 1, vars => { UP => $up->address, DEAD => $dead },
        files => { %CGI, 'html/sorry.txt' => 'sorry', 'html/all.txt' => '' },
        http => <<'END')->start;
OtelSampleRate 0
OtelSampleKeep error slow=300ms status=404 status=403
ScriptAlias /cgi/ %%PREFIX%%/cgi-bin/
ProxyPass /up/ http://%%UP%%/
ProxyPass /dead/ http://%%DEAD%%/
<Location /over/>
ProxyErrorOverride On
ErrorDocument 500 /elsewhere/sorry.txt
ProxyPass http://%%UP%%/
</Location>
<Location /all.txt>
OtelSampleRate 1
</Location>
<Location /redirected>
ErrorDocument 404 /elsewhere/sorry.txt
</Location>
Alias /elsewhere %%PREFIX%%/html
<Location /elsewhere>
OtelSampleKeep off
</Location>
<Location /local>
ErrorDocument 404 /cgi/slow
</Location>
<Location /denied>
Require all denied
</Location>
<Location /quiet>
OtelSampleKeep off
</Location>
<Location /twice>
OtelSampleKeep status=404 limit=1r/m
OtelSampleKeep error
</Location>
<Location /limited>
OtelSampleKeep status=404 limit=1r/m
</Location>
<Location /condition>
OtelTrace "expr=%{HTTP:X-On} == '1'"
</Location>
END
    my $at = '(' . line_of($s, 'OtelSampleKeep error slow=300ms status=404 status=403') . ')';
    my $kept = sub {
        my ($span, $why, $name) = @_;
        is $span->{record}{decision}, "keep $why $at", "$name: kept";
        is $span->{record}{note_decision}, "keep $why $at", 'as a note';
        is $span->{record}{sampled}, 0, 'was not sampled';
        is $span->{attrs}{'edgespan.sampling.reason'}, $why, 'the span says why';
        is $span->{flags} & 1, 0, 'and that it was not sampled';
        is $span->{trace_state}, '', 'no th';
    };
    my $client = sub {
        my ($span, $count) = @_;
        my @clients = $s->{collector}->wait_spans($count, 5, kind => 'CLIENT', trace_id => $span->{trace_id});
        is $_->{parent_span_id}, $span->{span_id}, 'a CLIENT span below' for @clients;
        is @clients, $count, "$count of them";
        return @clients;
    };

    $kept->(get($s, '/none'), 'status', '404');
    $kept->(get($s, '/denied'), 'status', '403');
    $kept->(get($s, '/redirected'), 'status', 'to a place that keeps nothing');
    $kept->(get($s, '/cgi/bad'), 'error', '503');
    $kept->(get($s, '/cgi/slow'), 'slow', 'a slow script');
    $kept->(get($s, '/local'), 'slow', 'a slow error page');
    $kept->(my $span = get($s, '/up/500'), 'error', 'an upstream\'s 500');
    my ($c) = $client->($span, 1);
    is $c->{attrs}{'http.response.status_code'}, 500, 'its status';
    is $c->{attrs}{'network.peer.port'}, $up->port, 'its peer';
    is $c->{flags} & 1, 0, 'its flags';
    is $c->{attrs}{'edgespan.sampling.reason'}, 'error', 'and why';
    is $c->{span_id}, $span->{record}{upstream}, 'its id';
    like +($up->requests)[-1], qr/^traceparent: 00-$span->{trace_id}-$c->{span_id}-02\r/m, 'upstream knew it';
    $kept->($span = get($s, '/up/slow'), 'slow', 'a slow upstream');
    ($c) = $client->($span, 1);
    cmp_ok $c->{end} - $c->{start}, '>', 0.3e9, 'as long as it took';
    $kept->($span = get($s, '/up/short'), 'error', 'a truncated response');
    is +($client->($span, 1))[0]{attrs}{'error.type'}, 'upstream_response_truncated', 'says so';
    $kept->($span = get($s, '/dead/x'), 'error', 'no upstream');
    is +($client->($span, 1))[0]{attrs}{'error.type'}, 'connection_failed', 'says so';

    $kept->($span = get($s, '/over/500'), 'error', 'an error page instead');
    is $span->{response}{body}, 'sorry', 'is ours';
    is +($client->($span, 1))[0]{attrs}{'http.response.status_code'}, 500, 'the status of the upstream';

    for my $path (qw(/cgi/env /cgi/long /up/x /quiet/none /twice/none)) {
        my ($record) = recorded($s, sub { http_get($s->port, $path) });
        like $record->{decision}, qr/^drop ratio=0 \(httpd\.conf:\d+\)$/, "$path: dropped";
        not_exported($s, $record, 'no span');
    }
    my ($record) = recorded($s, sub { http_get($s->port, '/condition/none') });
    is $record->{decision}, 'drop off', 'the condition of OtelTrace said no';
    not_exported($s, $record, 'not kept');
    my @decisions = map { scalar(recorded($s, sub { http_get($s->port, '/limited/none') }))->{decision} } 1 .. 2;
    is_deeply [ map {s/ \(.*//r} @decisions ], [ 'keep status', 'drop keep limit' ], 'a limit';

    SKIP: {
        skip 'curl has no HTTP/2', 1 unless `curl -V 2>&1` =~ /HTTP2/;
        my %want = ('/cgi/slow' => "keep slow $at", '/none' => "keep status $at");
        for my $path (sort keys %want) {
            my $record = curl_h2($s, $path);
            is $record->{decision}, $want{$path}, "HTTP/2, $path";
            is span_of($s, $record)->{attrs}{'network.protocol.version'}, 2, 'its span';
        }
        is curl_h2($s, $_)->{decision} =~ s/ \(.*//r, 'drop ratio=0', "HTTP/2, $_" for '/cgi/env', '/cgi/long';
    }
    lint($s);
    $s->finish;
};

subtest 'a tunnel is not slow because it lasts' => sub {
    my $up = EdgespanTest::Upstream->new(respond => sub {
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello",
            [ delay => 0.4 ], 'close');
    });
    my $s = traced(extra => ['proxy_connect'], vars => { UP => $up->address, TO => $up->port },
        http => <<'END')->start;
OtelSampleRate 0
OtelSampleKeep slow=200ms
ProxyPass /ws http://%%UP%%/ws upgrade=websocket
ProxyRequests On
AllowCONNECT %%TO%%
END
    my ($record, $res) = recorded($s, sub { http_get($s->port, '/ws',
        headers => [ [ Upgrade => 'websocket' ], [ Connection => 'Upgrade' ] ]) });
    is $res->{status}, 101, 'WebSocket';
    cmp_ok $record->{us}, '>', 300000, 'lasts';
    like $record->{decision}, qr/^drop ratio/, 'and is not kept';
    my $to = '127.0.0.1:' . $up->port;
    my $text;
    ($record, $text) = recorded($s, sub { scalar http_raw($s->port,
        "CONNECT $to HTTP/1.1\r\nHost: $to\r\n\r\nGET / HTTP/1.1\r\n\r\n") });
    like $text, qr/Connection Established.*101 Switching/s, 'CONNECT';
    cmp_ok $record->{us}, '>', 300000, 'lasts';
    like $record->{decision}, qr/^drop ratio/, 'and is not kept';
    $s->finish;
};

subtest 'upstreams of subrequests are kept' => sub {
    my $up = EdgespanTest::Upstream->new;
    my $s = traced(extra => ['include'], vars => { UP => $up->address }, files => {
            'html/a.shtml' => '<!--#include virtual="/up/sub1" --><!--#include virtual="/up/sub2?q=1" -->' },
        http => <<'END')->start;
OtelSampleRate 0
OtelSampleKeep status=200
ProxyPass /up/ http://%%UP%%/
<Directory %%PREFIX%%/html>
Options +Includes
</Directory>
<FilesMatch \.shtml$>
SetOutputFilter INCLUDES
</FilesMatch>
END
    my $span = get($s, '/a.shtml');
    is $span->{attrs}{'edgespan.sampling.reason'}, 'status', 'the page';
    my @clients = $s->{collector}->wait_spans(2, 5, kind => 'CLIENT', trace_id => $span->{trace_id});
    is_deeply [ map { $_->{attrs}{'url.full'} } @clients ],
        [ map {"http://@{[$up->address]}/$_"} 'sub1', 'sub2?q=1' ], 'both of its upstreams';
    my @sent = map {/^traceparent: \w+-\w+-(\w+)-02\r/m} $up->requests;
    is_deeply [ map { $_->{span_id} } @clients ], \@sent, 'by the ids that they had';
    is $_->{attrs}{'network.peer.port'}, $up->port, 'and their peer' for @clients;
    lint($s);
    $s->finish;
};

subtest 'what the client is told' => sub {
    my $up = EdgespanTest::Upstream->new(respond => sub {
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nCache-Control: max-age=60\r\n"
            . "traceresponse: theirs\r\nServer-Timing: db;dur=1\r\n\r\nok\n";
    });
    my $s = traced(extra => [qw(cache cache_disk)], http2 => 1, files => { %CGI,
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
            my $record = curl_h2($s, $path, '-D', $s->prefix . '/headers');
            my @told = slurp($s->prefix . '/headers') =~ /^traceresponse: (\S+)/mgi;
            is_deeply \@told, [ "00-$record->{trace}-$record->{span}-03" ], "HTTP/2, $path";
        }
    }
    lint($s);
    $s->finish;
};

subtest 'baggage' => sub {
    my $s = traced(files => \%CGI, http => <<'END')->start;
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
        my $s = traced(files => \%CGI, http => <<"END")->start;
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
