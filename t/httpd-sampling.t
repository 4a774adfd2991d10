# httpd: what is peculiar to it in sampling: sections, redirects, what is kept at the
# end and upstreams of that.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::HttpdTraced;
use EdgespanTest::Upstream;

my $TRACE       = '4bf92f3577b34da6a3ce929d0e0e4736';
my $PARENT      = '00f067aa0ba902b7';
my $TRACEPARENT = "00-$TRACE-$PARENT-01";

sub not_exported {
    my ($s, $record, $name) = @_;
    get($s, '/all.txt');    # a later span has come: so would have an earlier
    my @none = $s->{collector}->spans(span_id => $record->{span});
    is @none, 0, $name;
}

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
    my $s = traced(files => \%SCRIPTS, vars => { UP => $up->address }, http => <<'END')->start;
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
        return [ delay => 1.2 ], "HTTP/1.1 200 x\r\nContent-Length: 2\r\n\r\nok" if $bytes =~ m{^GET /slow};
        return "HTTP/1.1 200 x\r\nContent-Length: 100\r\n\r\nshort", 'close' if $bytes =~ m{^GET /short};
        return "HTTP/1.1 200 x\r\nContent-Length: 2\r\n\r\nok";
    });
    my $dead = '127.0.0.1:' . free_port();
    my $s = traced(http2 => 1, vars => { UP => $up->address, DEAD => $dead },
        files => { %SCRIPTS, 'html/sorry.txt' => 'sorry', 'html/all.txt' => '',
            map { $_ => $SCRIPTS{$_} =~ s/sleep 0.4/sleep 1.2/r } qw(cgi-bin/slow cgi-bin/long) },
        http => <<'END')->start;
OtelSampleRate 0
OtelSampleKeep error slow=1s status=404 status=403
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
    my $at = '(' . line_of($s, 'OtelSampleKeep error slow=1s status=404 status=403') . ')';
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
    cmp_ok $c->{end} - $c->{start}, '>', 1.1e9, 'as long as it took';
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
            my $record = get_h2($s, $path);
            is $record->{decision}, $want{$path}, "HTTP/2, $path";
            is span_of($s, $record)->{attrs}{'network.protocol.version'}, 2, 'its span';
        }
        is get_h2($s, $_)->{decision} =~ s/ \(.*//r, 'drop ratio=0', "HTTP/2, $_" for '/cgi/env', '/cgi/long';
    }
    lint($s);
    $s->finish;
};

subtest 'a tunnel is not slow because it lasts' => sub {
    my $up = EdgespanTest::Upstream->new(respond => sub {
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello",
            [ delay => 1.2 ], 'close');
    });
    my $s = traced(extra => ['proxy_connect'], vars => { UP => $up->address, TO => $up->port },
        http => <<'END')->start;
OtelSampleRate 0
OtelSampleKeep slow=1s
ProxyPass /ws http://%%UP%%/ws upgrade=websocket
ProxyRequests On
AllowCONNECT %%TO%%
END
    my ($record, $res) = recorded($s, sub { http_get($s->port, '/ws',
        headers => [ [ Upgrade => 'websocket' ], [ Connection => 'Upgrade' ] ]) });
    is $res->{status}, 101, 'WebSocket';
    cmp_ok $record->{us}, '>', 1_100_000, 'lasts';
    like $record->{decision}, qr/^drop ratio/, 'and is not kept';
    my $to = '127.0.0.1:' . $up->port;
    my $text;
    ($record, $text) = recorded($s, sub { scalar http_raw($s->port,
        "CONNECT $to HTTP/1.1\r\nHost: $to\r\n\r\nGET / HTTP/1.1\r\n\r\n") });
    like $text, qr/Connection Established.*101 Switching/s, 'CONNECT';
    cmp_ok $record->{us}, '>', 1_100_000, 'lasts';
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

done_testing;
