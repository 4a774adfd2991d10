# One list of scenarios, run against both servers: the same request, configured
# in each server's own words, has to give the same spans.

use strict;
use warnings;
use Test::More;
use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::Httpd;
use EdgespanTest::Nginx;
use EdgespanTest::Otlp;

use constant {
    TRACE  => '4bf92f3577b34da6a3ce929d0e0e4736',
    PARENT => '00f067aa0ba902b7',
};

# What the gateways have behind them: it answers with the context that it got.
my $upstream = EdgespanTest::Nginx->new(module => 0, name => 'upstream', http => <<'END');
    server {
        listen 127.0.0.1:%%PORT%%;
        location /      { return 200 "$http_traceparent|$http_tracestate|"; }
        location /fails { return 500 "$http_traceparent|$http_tracestate|"; }
        location /lacks { return 404 "$http_traceparent|$http_tracestate|"; }
    }
END
$upstream->start;
my $backend = '127.0.0.1:' . $upstream->port;
my $dead    = '127.0.0.1:' . free_port();

my $collector = EdgespanTest::Collector->new;

my %server = (
    nginx => EdgespanTest::Nginx->new(allow => qr/connect\(\) failed/, http => <<"END"),
    otel_exporter { endpoint @{[$collector->url]}; interval 50ms; header X-Server nginx; }
    otel_service_name scenario;
    otel_resource_attr deployment.environment.name test;
    otel_trace on;
    server {
        listen 127.0.0.1:%%PORT%%;
        root %%PREFIX%%/html;
        location /proxy/   { proxy_pass http://$backend/; }
        location /dead/    { proxy_pass http://$dead/; }
        location /nospan/  { proxy_pass http://$backend/; otel_upstream_span off; }
        location /off/     { proxy_pass http://$backend/; otel_trace off; }
        location /never/   { proxy_pass http://$backend/; otel_sample_rate 0; }
        location /extract/ { proxy_pass http://$backend/; otel_trace_context extract; }
        location /inject/  { proxy_pass http://$backend/; otel_trace_context inject; }
        location /ignore/  { proxy_pass http://$backend/; otel_trace_context ignore; }
        location /named/ {
            proxy_pass http://$backend/;
            otel_span_name "checkout";
            otel_span_attr tier edge;
            otel_span_attr tier gold;
            otel_span_attr user_agent.original hidden;
        }
    }
END
    httpd => EdgespanTest::Httpd->new(mpm => 'event', http => <<"END"),
    OtelExporter @{[$collector->url]} interval=50ms header=X-Server:httpd
    OtelServiceName scenario
    OtelResourceAttr deployment.environment.name test
    OtelTrace On
    DocumentRoot %%PREFIX%%/html
    <Directory %%PREFIX%%/html>
        Require all granted
    </Directory>
    ProxyPass /proxy/   http://$backend/
    ProxyPass /dead/    http://$dead/
    ProxyPass /nospan/  http://$backend/
    ProxyPass /off/     http://$backend/
    ProxyPass /never/   http://$backend/
    ProxyPass /extract/ http://$backend/
    ProxyPass /inject/  http://$backend/
    ProxyPass /ignore/  http://$backend/
    ProxyPass /named/   http://$backend/
    <Location /nospan/>
        OtelUpstreamSpan Off
    </Location>
    <Location /off/>
        OtelTrace Off
    </Location>
    <Location /never/>
        OtelSampleRate 0
    </Location>
    <Location /extract/>
        OtelTraceContext extract
    </Location>
    <Location /inject/>
        OtelTraceContext inject
    </Location>
    <Location /ignore/>
        OtelTraceContext ignore
    </Location>
    <Location /named/>
        OtelSpanName "checkout"
        OtelSpanAttr tier edge
        OtelSpanAttr tier gold
        OtelSpanAttr user_agent.original hidden
    </Location>
END
);

my @continued = ([traceparent => '00-' . TRACE . '-' . PARENT . '-01'], [tracestate => 'a=1,b=2']);

# request: path, headers. status: the answer's. spans: SERVER first, then CLIENT;
# attr: these values, undef for attributes that must not be there. sent: what the
# upstream got, where %T, %S and %C stand for the trace id, the SERVER's and the
# CLIENT's span id. A trace that begins here is random, and says so: flags 02.
my @scenarios = (
    {name => 'a file', path => '/index.html', status => 200,
     spans => [{kind => 'SERVER', attr => {
         'http.request.method' => 'GET', 'url.path' => '/index.html', 'url.query' => undef,
         'url.scheme' => 'http', 'http.response.status_code' => 200, 'server.address' => 'gw.example',
         'server.port' => 80, 'network.protocol.version' => '1.1', 'client.address' => '127.0.0.1',
         'network.peer.address' => '127.0.0.1', 'user_agent.original' => 'scenario/1.0',
         'http.response.body.size' => 5, 'error.type' => undef, 'edgespan.reason' => undef}}]},
    {name => 'no such file', path => '/missing', status => 404,
     spans => [{kind => 'SERVER', status => 'UNSET',
                attr => {'http.response.status_code' => 404, 'error.type' => undef}}]},
    {name => 'a secret in the query', path => '/index.html?a=1&sig=s3cret&b=2', status => 200,
     spans => [{kind => 'SERVER', attr => {'url.query' => 'a=1&sig=REDACTED&b=2'}}]},
    {name => 'an unknown method', method => 'BREW', path => '/proxy/pot', status => 200,
     spans => [{kind => 'SERVER', name => qr/^HTTP/, attr => {
                    'http.request.method' => '_OTHER', 'http.request.method_original' => 'BREW'}},
               {kind => 'CLIENT', name => 'HTTP'}]},
    {name => 'a new trace through a proxy', path => '/proxy/x?y=1', status => 200,
     sent => '00-%T-%C-03||',
     spans => [{kind => 'SERVER', parent => '', flags => 0x103},
               {kind => 'CLIENT', parent => 'SERVER', flags => 0x103, attr => {
                    'server.address' => '127.0.0.1', 'server.port' => $upstream->port,
                    'network.peer.address' => '127.0.0.1', 'network.peer.port' => $upstream->port,
                    'url.full' => "http://$backend/x?y=1", 'http.response.status_code' => 200,
                    'url.path' => undef, 'user_agent.original' => undef}}]},
    {name => 'a continued trace', path => '/proxy/x', headers => \@continued, status => 200,
     sent => '00-' . TRACE . '-%C-01|a=1,b=2|',
     spans => [{kind => 'SERVER', parent => PARENT, flags => 0x301, trace_state => 'a=1,b=2'},
               {kind => 'CLIENT', parent => 'SERVER', flags => 0x101, trace_state => 'a=1,b=2'}]},
    {name => 'a caller who does not sample', path => '/proxy/x', status => 200,
     headers => [[traceparent => '00-' . TRACE . '-' . PARENT . '-00']],
     sent => qr/^00-@{[TRACE]}-(?!@{[PARENT]})[0-9a-f]{16}-00\|\|$/, spans => []},
    {name => 'an invalid traceparent takes its tracestate along', path => '/proxy/x', status => 200,
     headers => [[traceparent => '00-' . TRACE . '-0000000000000000-01'], [tracestate => 'a=1']],
     sent => qr/^00-(?!@{[TRACE]})[0-9a-f]{32}-[0-9a-f]{16}-03\|\|$/,
     spans => [{kind => 'SERVER', parent => ''}, {kind => 'CLIENT', parent => 'SERVER'}]},
    {name => 'two traceparents are none', path => '/proxy/x', status => 200,
     headers => [$continued[0], [Traceparent => '00-' . TRACE . '-' . ('b' x 16) . '-01']],
     sent => '00-%T-%C-03||',
     spans => [{kind => 'SERVER', parent => ''}, {kind => 'CLIENT', parent => 'SERVER'}]},
    {name => 'two tracestates are one list', path => '/proxy/x', status => 200,
     headers => [$continued[0], [tracestate => 'a=1'], [TraceState => 'b=2']],
     sent => qr/^00-@{[TRACE]}-[0-9a-f]{16}-01\|a=1,\s?b=2\|$/,
     spans => [{kind => 'SERVER', parent => PARENT}, {kind => 'CLIENT', parent => 'SERVER'}]},
    {name => 'odd case of the names', path => '/proxy/x', status => 200,
     headers => [[TrAcEpArEnT => $continued[0][1]], [TRACESTATE => 'a=1']],
     sent => '00-' . TRACE . '-%C-01|a=1|',
     spans => [{kind => 'SERVER', parent => PARENT}, {kind => 'CLIENT', parent => 'SERVER'}]},
    {name => 'a hundred headers', path => '/proxy/x', status => 200,
     headers => [(map { ["X-Filler-$_" => $_] } 1 .. 95), @continued],
     sent => '00-' . TRACE . '-%C-01|a=1,b=2|',
     spans => [{kind => 'SERVER', parent => PARENT}, {kind => 'CLIENT', parent => 'SERVER'}]},
    {name => 'HTTP/1.0', path => '/proxy/x', version => '1.0', status => 200, sent => '00-%T-%C-03||',
     spans => [{kind => 'SERVER', attr => {'network.protocol.version' => '1.0'}}, {kind => 'CLIENT'}]},
    {name => 'an upstream that fails', path => '/proxy/fails', status => 500,
     spans => [{kind => 'SERVER', status => 'ERROR', attr => {'error.type' => '500'}},
               {kind => 'CLIENT', status => 'ERROR', attr => {
                    'error.type' => '500', 'http.response.status_code' => 500}}]},
    {name => "a client's mistake is an error of the CLIENT span only", path => '/proxy/lacks',
     status => 404,
     spans => [{kind => 'SERVER', status => 'UNSET', attr => {'error.type' => undef}},
               {kind => 'CLIENT', status => 'ERROR', attr => {'error.type' => '404'}}]},
    {name => 'an upstream that is not there', path => '/dead/x', status => [502, 503],
     spans => [{kind => 'SERVER', status => 'ERROR'},
               {kind => 'CLIENT', status => 'ERROR', attr => {
                    'http.response.status_code' => undef, 'error.type' => 'connection_failed'}}]},
    {name => 'no CLIENT span wanted', path => '/nospan/x', status => 200, sent => '00-%T-%S-03||',
     spans => [{kind => 'SERVER'}]},
    {name => 'not traced: headers pass as they came', path => '/off/x', headers => \@continued,
     status => 200, sent => '00-' . TRACE . '-' . PARENT . '-01|a=1,b=2|', spans => []},
    {name => 'rate 0: takes part without sampling', path => '/never/x', status => 200,
     sent => qr/^00-[0-9a-f]{32}-[0-9a-f]{16}-02\|\|$/, spans => []},
    {name => 'extract', path => '/extract/x', headers => \@continued, status => 200,
     sent => '00-' . TRACE . '-' . PARENT . '-01|a=1,b=2|',
     spans => [{kind => 'SERVER', parent => PARENT}, {kind => 'CLIENT', parent => 'SERVER'}]},
    {name => 'inject', path => '/inject/x', headers => \@continued, status => 200,
     sent => qr/^00-(?!@{[TRACE]})[0-9a-f]{32}-[0-9a-f]{16}-03\|\|$/,
     spans => [{kind => 'SERVER', parent => ''}, {kind => 'CLIENT', parent => 'SERVER'}]},
    {name => 'ignore', path => '/ignore/x', headers => \@continued, status => 200,
     sent => '00-' . TRACE . '-' . PARENT . '-01|a=1,b=2|',
     spans => [{kind => 'SERVER', parent => ''}, {kind => 'CLIENT', parent => 'SERVER'}]},
    {name => "a name and attributes of the user's", path => '/named/x', status => 200,
     spans => [{kind => 'SERVER', name => 'checkout',
                attr => {tier => 'gold', 'user_agent.original' => 'hidden'}},
               {kind => 'CLIENT', name => 'GET'}]},
);

sub check_span {
    my ($span, $expected, $server) = @_;
    my $what = $expected->{kind};
    if (defined $expected->{name}) {
        ref $expected->{name} ? like($span->{name}, $expected->{name}, "$what name")
                              : is($span->{name}, $expected->{name}, "$what name");
    }
    if (defined(my $parent = $expected->{parent})) {
        is $span->{parent_span_id}, $parent eq 'SERVER' ? $server->{span_id} : $parent, "$what parent";
    }
    is $span->{flags}, $expected->{flags}, "$what flags" if defined $expected->{flags};
    is $span->{trace_state}, $expected->{trace_state}, "$what tracestate" if defined $expected->{trace_state};
    is $span->{status}{code} // 'UNSET', $expected->{status}, "$what status" if defined $expected->{status};
    for my $key (sort keys %{$expected->{attr} // {}}) {
        is $span->{attrs}{$key}, $expected->{attr}{$key}, "$what $key";
    }
    is $span->{resource}{'service.name'}, 'scenario', "$what service.name";
    is $span->{resource}{'deployment.environment.name'}, 'test', "$what resource attribute";
}

my $marker = 0;
sub run_scenario {
    my ($server, $scenario) = @_;
    my $seen = scalar $collector->spans;
    my $answer = http_get($server->port, $scenario->{path},
        method => $scenario->{method} // 'GET', version => $scenario->{version} // '1.1',
        host => 'gw.example',
        headers => [['User-Agent' => 'scenario/1.0'], @{$scenario->{headers} // []}]);
    my @statuses = ref $scenario->{status} ? @{$scenario->{status}} : $scenario->{status};
    ok((grep { $_ == $answer->{status} } @statuses), "answered $answer->{status}");

    # A last request, so that spans which should not be there have had their time.
    my $last = '/index.html?last=' . ++$marker;
    http_get($server->port, $last, host => 'gw.example');
    wait_for(sub { grep { ($_->{attrs}{'url.query'} // '') eq "last=$marker" } $collector->spans },
        10, 'the span of the last request');
    my @spans = $collector->spans;
    @spans = grep { ($_->{attrs}{'url.query'} // '') ne "last=$marker" } @spans[@$seen .. $#spans];
    my %of = map { $_->{kind} => $_ } @spans;

    is join(' ', sort map { $_->{kind} } @spans), join(' ', sort map { $_->{kind} } @{$scenario->{spans}}),
        'these spans and no others' or diag explain \@spans;
    is_deeply [EdgespanTest::Otlp::lint(\@spans)], [], 'well-formed';
    for my $expected (@{$scenario->{spans}}) {
        my $span = $of{$expected->{kind}} or next;
        check_span($span, $expected, $of{SERVER});
    }
    if (my ($client, $outer) = @of{qw(CLIENT SERVER)}) {
        if ($client && $outer) {
            is $client->{trace_id}, $outer->{trace_id}, 'one trace';
            cmp_ok $client->{start}, '>=', $outer->{start}, 'CLIENT begins within SERVER';
            cmp_ok $client->{end},   '<=', $outer->{end},   'CLIENT ends within SERVER';
        }
    }
    if (defined(my $sent = $scenario->{sent})) {
        $answer->{body} =~ s/\|.*?\K\n\z//s;
        if (ref $sent) { like $answer->{body}, $sent, 'what the upstream got'; return }
        my %id = (T => $of{SERVER}{trace_id}, S => $of{SERVER}{span_id}, C => $of{CLIENT}{span_id});
        $sent =~ s/%([TSC])/$id{$1}/g;
        is $answer->{body}, $sent, 'what the upstream got';
    }
}

for my $name (sort keys %server) {
    my $server = $server{$name};
    $server->write_file('html/index.html', "index");
    $server->start;
    subtest "$name: $_->{name}" => do {
        my $scenario = $_;
        sub { run_scenario($server, $scenario) };
    } for @scenarios;
    $server->stop;
    $server->finish;
    is scalar(grep { (header($_, 'X-Server') // '') eq $name } $collector->requests) > 0, 1,
        "$name: the configured header is sent";
}
note scalar(@scenarios) . ' scenarios on each server';
$upstream->finish;
$collector->stop;
done_testing;
