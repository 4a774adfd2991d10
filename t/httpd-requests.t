# httpd: the SERVER span of every kind of request, and what a request shows of
# its trace.

use strict;
use warnings;

use IO::Socket::INET;
use List::Util qw(min);
use Test::More;

use EdgespanTest;
use EdgespanTest::Httpd;
use EdgespanTest::HttpdTraced;
use EdgespanTest::Upstream;

my $TRACE       = '4bf92f3577b34da6a3ce929d0e0e4736';
my $PARENT      = '00f067aa0ba902b7';
my $TRACEPARENT = "00-$TRACE-$PARENT-01";

# How many microseconds a span's duration is off %D; and how many those may be where
# the machine did something else in between.
sub off { return abs(($_[0]{end} - $_[0]{start}) / 1000 - $_[0]{record}{us}) }
my $LATE = 1e6;

# --- Tests ----------------------------------------------------------------

subtest 'a plain request' => sub {
    my $s = traced(files => { 'html/a/b.txt' => 'x' x 100 })->start;
    my $span = get($s, '/a/b.txt?x=1&sig=secret', headers => [
        [ 'Host', 'example.org:8080' ], [ 'User-Agent', 'tester/1' ] ]);
    my $port = delete $span->{attrs}{'network.peer.port'};
    delete @{ $span->{attrs} }{ grep {/^edgespan\.time\./} keys %{ $span->{attrs} } };
    is_deeply $span->{attrs}, {
        'http.request.method' => 'GET', 'url.path' => '/a/b.txt',
        'url.query' => 'x=1&sig=REDACTED', 'url.scheme' => 'http',
        'server.address' => 'example.org', 'server.port' => 8080,
        'network.protocol.version' => '1.1', 'client.address' => '127.0.0.1',
        'network.peer.address' => '127.0.0.1',
        'user_agent.original' => 'tester/1',
        'http.response.status_code' => 200, 'http.response.body.size' => 100,
    }, 'attributes';
    ok $port > 0, 'the peer has a port';
    is $span->{name}, 'GET', 'name';
    is $span->{kind}, 'SERVER', 'kind';
    is $span->{status}{code}, 'UNSET', 'status';
    is $span->{parent_span_id}, '', 'a root';
    is $span->{flags}, 0x103, 'flags: sampled, random, parent not remote';
    is $span->{resource}{'service.name'}, 'edge', 'service.name';

    is get($s, '/none')->{attrs}{'http.response.status_code'}, 404, 'not found';
    is get($s, '/none')->{status}{code}, 'UNSET', '404 is no error of ours';
    is get($s, '/', version => '1.0')->{attrs}{'network.protocol.version'},
        '1.0', 'HTTP/1.0';
    my $old = raw($s, "GET /\r\n");
    is $old->{attrs}{'network.protocol.version'}, '0.9', 'HTTP/0.9';
    my $head = get($s, '/a/b.txt', method => 'HEAD');
    is $head->{attrs}{'http.response.status_code'}, 200, 'HEAD: status';
    is $head->{attrs}{'http.response.body.size'}, 0, 'HEAD: no body';
    is get($s, '/', method => 'POST', body => 'x' x 10)
        ->{attrs}{'http.request.body.size'}, 10, 'size of a request body';
    my $odd = get($s, '/', method => 'BREW');
    is $odd->{attrs}{'http.request.method'}, '_OTHER', 'unknown method';
    is $odd->{attrs}{'http.request.method_original'}, 'BREW', 'kept aside';
    is $odd->{name}, 'HTTP', 'and not in the name';
    is get($s, 'http://example.net/a/b.txt')->{attrs}{'url.path'}, '/a/b.txt',
        'absolute form';
    my $err = get($s, '/x', headers => [ [ 'Expect', 'miracles' ] ]);
    is $err->{attrs}{'http.response.status_code'}, 417, 'unknown Expect';
    lint($s);
    $s->finish;
};

subtest 'the duration is %D' => sub {
    my $s = traced(files => \%SCRIPTS,
        http => 'ScriptAlias /cgi/ %%PREFIX%%/cgi-bin/')->start;
    my @off;
    for my $path ('/', '/cgi/slow', '/none', '/cgi/slow') {
        my $span = get($s, $path);
        push @off, off($span);
        cmp_ok $off[-1], '<', $LATE, "$path: $span->{record}{us} us, off by $off[-1]";
    }
    cmp_ok min(@off), '<', 1000, 'where nothing came between';
    # The clock starts with the request line, however long the header takes.
    my ($record) = recorded($s, sub {
        my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
            PeerPort => $s->port) or die;
        syswrite $sock, "GET / HTTP/1.1\r\n";
        select undef, undef, undef, 0.5;
        syswrite $sock, "Host: localhost\r\nConnection: close\r\n\r\n";
        local $/;
        return readline $sock;
    });
    my $span = span_of($s, $record);
    $span->{record} = $record;
    cmp_ok $span->{end} - $span->{start}, '>', 0.9e8, 'a slow header is part of it';
    cmp_ok off($span), '<', $LATE, 'as in %D';
    $s->finish;
};

subtest 'context of the caller' => sub {
    my $s = traced(files => \%SCRIPTS, http => <<'END')->start;
ScriptAlias /cgi/ %%PREFIX%%/cgi-bin/
ScriptAlias /extract/ %%PREFIX%%/cgi-bin/
ScriptAlias /inject/ %%PREFIX%%/cgi-bin/
ScriptAlias /ignore/ %%PREFIX%%/cgi-bin/
<Location /extract>
OtelTraceContext extract
</Location>
<Location /inject>
OtelTraceContext inject
</Location>
<Location /ignore>
OtelTraceContext ignore
</Location>
END
    my @headers = (headers => [ [ Traceparent => $TRACEPARENT ],
        [ tracestate => 'a=1' ], [ tracestate => 'b=2' ] ]);
    my $cgi = sub { +{ $_[0]{response}{body} =~ /^(\w+)=(.*)$/mg } };

    my $span = get($s, '/cgi/env', @headers);
    my $env = $cgi->($span);
    is $span->{trace_id}, $TRACE, 'the trace goes on';
    is $span->{parent_span_id}, $PARENT, 'below the caller';
    is $span->{flags}, 0x301, 'flags: sampled, parent remote';
    like $span->{trace_state}, qr/^a=1,\s*b=2$/, 'tracestate';
    is $env->{HTTP_TRACEPARENT}, "00-$TRACE-$span->{span_id}-01",
        'a CGI sees our span as its parent';
    like $env->{HTTP_TRACESTATE}, qr/^a=1,\s*b=2$/, 'and the tracestate';
    is $env->{OTEL_TRACE_ID}, $TRACE, 'and OTEL_TRACE_ID';

    $span = get($s, '/cgi/env');
    is $cgi->($span)->{HTTP_TRACEPARENT}, "00-$span->{trace_id}-$span->{span_id}-03",
        'a new trace is injected';
    ok !exists $cgi->($span)->{HTTP_TRACESTATE}, 'without tracestate';

    $span = get($s, '/cgi/env', headers => [ [ traceparent => 'nonsense' ],
        [ tracestate => 'a=1' ] ]);
    isnt $span->{trace_id}, $TRACE, 'an invalid traceparent starts a new trace';
    ok !exists $cgi->($span)->{HTTP_TRACESTATE}, 'and its tracestate goes';

    $span = get($s, '/cgi/env', headers => [ ([ traceparent => $TRACEPARENT ]) x 2 ]);
    isnt $span->{trace_id}, $TRACE, 'two traceparents are none';
    is $cgi->($span)->{HTTP_TRACEPARENT},
        "00-$span->{trace_id}-$span->{span_id}-03", 'one goes on';

    $span = get($s, '/extract/env', @headers);
    is $span->{trace_id}, $TRACE, 'extract: joined';
    is $cgi->($span)->{HTTP_TRACEPARENT}, $TRACEPARENT, 'headers as they came';

    $span = get($s, '/inject/env', @headers);
    isnt $span->{trace_id}, $TRACE, 'inject: a trace of its own';
    is $cgi->($span)->{HTTP_TRACEPARENT},
        "00-$span->{trace_id}-$span->{span_id}-03", 'injected';
    ok !exists $cgi->($span)->{HTTP_TRACESTATE}, 'the old tracestate is gone';

    $span = get($s, '/ignore/env', @headers);
    isnt $span->{trace_id}, $TRACE, 'ignore: a trace of its own';
    is $cgi->($span)->{HTTP_TRACEPARENT}, $TRACEPARENT, 'headers as they came';

    my $record = recorded($s, sub { http_get($s->port, '/',
        headers => [ [ traceparent => "00-$TRACE-$PARENT-00" ] ]) });
    is $record->{trace}, $TRACE, 'parent not sampled: takes part';
    is $record->{sampled}, 0, 'not sampled either';
    get($s, '/');
    my @none = $s->{collector}->spans(span_id => $record->{span});
    is @none, 0, 'no span';
    $s->finish;
};

subtest 'the context alone' => sub {
    my $s = traced(trace => undef, files => \%SCRIPTS, http => <<'END')->start;
ScriptAlias /cgi/ %%PREFIX%%/cgi-bin/
OtelTraceContext propagate
END
    my ($record, $res) = recorded($s, sub { http_get($s->port, '/cgi/env',
        headers => [ [ traceparent => $TRACEPARENT ], [ tracestate => 'a=1' ] ]) });
    is $record->{trace}, $TRACE, 'takes part';
    is $record->{sampled}, 0, 'not sampled: nothing is traced here';
    like $res->{body}, qr/^HTTP_TRACEPARENT=00-$TRACE-$record->{span}-00$/m, 'and says so';
    http_get($s->port, '/');
    my @spans = $s->{collector}->spans;
    is @spans, 0, 'no span';
    $s->finish;
};

subtest 'variables in LogFormat and ErrorLogFormat' => sub {
    my $s = traced(files => \%SCRIPTS, http => <<'END')->start;
ErrorLogFormat "[%m:%l] %M trace=%{OTEL_TRACE_ID}e/%{OTEL_SPAN_ID}n"
<Location /denied>
Require all denied
</Location>
Redirect /gone http://example.org/
END
    my $span = get($s, '/', headers => [ [ traceparent => $TRACEPARENT ] ]);
    my %want = (trace => $TRACE, span => $span->{span_id}, parent => $PARENT,
        parent_sampled => 1, sampled => 1, flags => '01', upstream => '-',
        traceparent => "00-$TRACE-$span->{span_id}-01", note => $TRACE,
        note_sampled => 1);
    for my $name (sort keys %want) {
        is $span->{record}{$name}, $want{$name}, $name;
    }
    $span = get($s, '/denied');
    is $span->{attrs}{'http.response.status_code'}, 403,
        'denied before fixups: a span all the same';
    is $span->{record}{sampled}, 1, 'and variables';
    like $s->error_log, qr{denied by server configuration.* trace=\Q$span->{trace_id}/$span->{span_id}\E},
        'the error log names the trace';
    is get($s, '/gone/x')->{attrs}{'http.response.status_code'}, 302,
        'redirected in fixups: a span';
    $s->finish;
};

subtest 'requests that never were' => sub {
    my $s = traced(extra => ['reqtimeout'], http => <<'END')->start;
RequestReadTimeout header=1
LimitRequestLine 200
LimitRequestFieldSize 300
LimitRequestBody 10
END
    my $span = raw($s, "NONSENSE\r\n\r\n");
    is $span->{attrs}{'http.response.status_code'}, 400, 'nonsense: 400';
    is $span->{attrs}{'network.protocol.version'}, undef, 'of no version';
    $span = raw($s, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n");
    is $span->{attrs}{'http.response.status_code'}, 400, 'bad Host: 400';
    is $span->{attrs}{'url.path'}, '/', 'its path';
    $span = raw($s, "GET / HTTP/1.1\r\n\r\n");
    is $span->{attrs}{'http.response.status_code'}, 400, 'no Host: 400';
    $span = raw($s, "GET /@{['x' x 300]} HTTP/1.1\r\nHost: a\r\n\r\n");
    is $span->{attrs}{'http.response.status_code'}, 414, 'long line: 414';
    $span = raw($s, "GET / HTTP/1.1\r\nHost: a\r\nX: @{['x' x 400]}\r\n\r\n");
    is $span->{attrs}{'http.response.status_code'}, 400, 'long header: 400';
    $span = raw($s, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n");
    is $span->{attrs}{'http.response.status_code'}, 400, 'bad length: 400';
    $span = get($s, '/', method => 'POST', body => 'x' x 20);
    is $span->{attrs}{'http.response.status_code'}, 413, 'long body: 413';
    $span = raw($s, "GET / HTTP/1.1\r\nHost: a\r\nTraceparent: $TRACEPARENT\r\n"
        . "Transfer-Encoding: strange\r\n\r\n");
    is $span->{attrs}{'http.response.status_code'}, 400, 'strange coding: 400';
    is $span->{trace_id}, $TRACE, 'in the trace of its caller';
    is get($s, '/', version => '1.x')->{attrs}{'http.response.status_code'},
        400, 'bad version: 400';

    $span = raw($s, "GET / HTTP/1.1\r\nHost: a\r\n", timeout => 30);
    is $span->{record}{status}, 408, 'half a header: 408';
    cmp_ok off($span), '<', $LATE, 'as long as %D';
    my ($record) = recorded($s, sub { scalar http_raw($s->port, 'GET /', timeout => 30) });
    is $record->{status}, 408, 'half a request line: 408';
    $span = span_of($s, $record);
    is $span->{attrs}{'http.response.status_code'}, undef, 'which is not sent';
    is $span->{attrs}{'edgespan.reason'}, 'request_timeout', 'but the reason';
    lint($s);
    $s->finish;
};

subtest 'a client that leaves' => sub {
    my $s = traced(files => { 'html/big' => 'x' x 20_000_000 })->start;
    my $record = recorded($s, sub {
        my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
            PeerPort => $s->port) or die;
        syswrite $sock, "GET /big HTTP/1.1\r\nHost: a\r\n\r\n";
        sysread $sock, my $some, 1000;
        setsockopt $sock, Socket::SOL_SOCKET(), Socket::SO_LINGER(), pack 'ii', 1, 0;
        close $sock;
    });
    my $span = span_of($s, $record);
    is $span->{attrs}{'edgespan.reason'}, 'client_closed_request', 'reason';
    is $span->{status}{code}, 'UNSET', 'no error';
    is $span->{attrs}{'error.type'}, undef, 'no error.type';
    is $span->{attrs}{'http.response.status_code'}, 200, 'the status was sent';
    $s->finish;
};

subtest 'untraced: not a byte changes' => sub {
    my $up = EdgespanTest::Upstream->new;
    my @headers = ([ traceparent => $TRACEPARENT ], [ TraceParent => 'x y' ],
        [ tracestate => 'a=1' ], [ Tracestate => '' ], [ tracestate => 'b = 2' ],
        [ 'X-Odd', "\xff\x80" ], [ 'x-b3-traceid', '1' ], [ baggage => 'k=v' ]);
    my $http = "ProxyPass /up http://%%UP%%\nScriptAlias /cgi/ %%PREFIX%%/cgi-bin/\n";
    my %seen;
    for my $module (0, 1) {
        my $s = EdgespanTest::Httpd->new(module => $module, vars => { UP => $up->address },
            files => \%SCRIPTS, http => $http . ($module ? <<'END' : ''))->start;
OtelExporter http://127.0.0.1:9/v1/traces
<Location /traced>
OtelTrace On
</Location>
END
        my $n = $up->requests;
        http_get($s->port, '/up/x', headers => \@headers);
        my $bytes = ($up->wait_requests($n + 1))[$n];
        my $env = join '', sort map {"$_\n"} grep {/^HTTP_|^OTEL/}
            split /\n/, http_get($s->port, '/cgi/env', headers => \@headers)->{body};
        $seen{$module} = [ $bytes, $env ];
        $s->finish;
    }
    is $seen{1}[0], $seen{0}[0], 'to an upstream';
    is $seen{1}[1], $seen{0}[1], 'to a CGI';
};

subtest 'without an exporter' => sub {
    my $s = EdgespanTest::Httpd->new(http => <<'END', files => \%SCRIPTS)->start;
OtelTrace On
ScriptAlias /cgi/ %%PREFIX%%/cgi-bin/
END
    like http_get($s->port, '/cgi/env')->{body},
        qr/^HTTP_TRACEPARENT=00-\w{32}-\w{16}-03$/m, 'context all the same';
    my @warnings = $s->error_log =~ /(edgespan: .*no OtelExporter.*)/g;
    is @warnings, 1, 'one warning';
    $s->finish;
};

subtest 'HTTP/2' => sub {
    plan skip_all => 'curl has no HTTP/2' unless `curl -V 2>&1` =~ /HTTP2/;
    my $up = EdgespanTest::Upstream->new;
    my $s = traced(http2 => 1, vars => { UP => $up->address },
        http => 'ProxyPass /up/ http://%%UP%%/')->start;
    my $curl = sub {
        my ($path, @more) = @_;
        my ($record) = recorded($s, sub {
            system 'curl', '-s', '-o', '/dev/null', '--http2-prior-knowledge',
                @more, "http://127.0.0.1:@{[$s->port]}$path";
        });
        return ($record, span_of($s, $record));
    };
    my ($record, $span) = $curl->('/?a=b', '-H', "traceparent: $TRACEPARENT");
    is $span->{attrs}{'network.protocol.version'}, 2, 'version';
    is $span->{trace_id}, $TRACE, 'the trace goes on';
    is $span->{attrs}{'http.response.status_code'}, 200, 'status';
    is $span->{attrs}{'url.query'}, 'a=b', 'query';
    is $span->{attrs}{'server.port'}, $s->port, 'port of :authority';
    ok $span->{attrs}{'network.peer.port'}, 'peer';
    $span->{record} = $record;
    cmp_ok off($span), '<', $LATE, 'as long as %D';
    ($record, $span) = $curl->('/none');
    is $span->{attrs}{'http.response.status_code'}, 404, 'not found';
    ($record, $span) = $curl->('/up/x');
    my ($client) = $s->{collector}->wait_spans(1, 5, kind => 'CLIENT');
    is $client->{parent_span_id}, $span->{span_id}, 'CLIENT span below';
    like +($up->requests)[0], qr/traceparent: 00-$span->{trace_id}-$client->{span_id}-03/,
        'injected';
    $s->finish;
};

subtest 'variables that somebody else has set' => sub {
    my $s = traced(files => {%SCRIPTS}, http => <<'END')->start;
SetEnvIf Request_URI . OTEL_TRACE_ID=x otel_sampled=x OTEL_DECISION=x
ScriptAlias /cgi/ %%PREFIX%%/cgi-bin/
END
    my $span = get($s, '/cgi/env');
    my %values;
    push @{ $values{$1} }, $2 while $span->{response}{body} =~ /^(otel_\w+)=(.*)/img;
    is_deeply [ grep { @{ $values{$_} } != 1 || $values{$_}[0] eq 'x' } sort keys %values ], [],
        'are ours, and there once';
    is $values{OTEL_TRACE_ID}[0], $span->{trace_id}, 'as the span has it';
    $s->finish;
};

done_testing;
