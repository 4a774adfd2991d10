# The configurations of examples/collector at work, with other addresses: one
# machine's Collector before Jaeger; and two tiers, where the spans that several
# servers gave to several balancers come together by their trace.

use strict;
use warnings;
use Test::More;
use JSON::PP ();
use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::Interop;
use EdgespanTest::InteropCollector;
use EdgespanTest::InteropJaeger;

sub collector {
    my ($example, $named, $override, %opt) = @_;
    return EdgespanTest::InteropCollector->new(example => $example, named => $named,
        override => $override, %opt)->start;
}

sub otlp_to {
    my ($collector) = @_;
    my $port = $collector->port_of('http');
    return (endpoint => "http://127.0.0.1:$port", protocol => 'http/protobuf');
}

my $both = <<'END';
receivers:
  otlp:
    protocols:
      grpc: {endpoint: 127.0.0.1:%%PORT1%%}
      http: {endpoint: 127.0.0.1:%%PORT2%%}
END

subtest 'one machine' => sub {
    my $jaeger = EdgespanTest::InteropJaeger->new->start;
    my $collector = collector('one-machine.yaml', { grpc => 1, http => 2 }, $both,
        env => { BACKEND_URL => 'http://127.0.0.1:' . $jaeger->port_of('http'),
            HOSTNAME => 'here' });
    arrives('one machine', $_, [ otlp_to($collector) ], $jaeger) for @SERVERS;
    $collector->finish;
    $jaeger->finish;
};

# Answers X-Ray's clients as X-Ray does.
my $xray = EdgespanTest::Collector->new(
    mode => "raw:HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");

my @sample = map {
    collector('many-machines-sample.yaml', { grpc => 1 }, <<"END",
receivers: {otlp: {protocols: {grpc: {endpoint: 127.0.0.1:%%PORT1%%}}}}
processors: {tail_sampling: {decision_wait: 1s}, batch: {timeout: 50ms}}
exporters:
  file: {path: %%PREFIX%%/traces.json, flush_interval: 50ms}
  awsxray: {endpoint: "http://127.0.0.1:@{[$xray->port]}", local_mode: true}
service: {pipelines: {traces: {exporters: [file, awsxray]}}}
END
        env => { AWS_ACCESS_KEY_ID => 'none', AWS_SECRET_ACCESS_KEY => 'none' });
} 1 .. 2;
my $hosts = join ', ', map { '"127.0.0.1:' . $_->port_of('grpc') . '"' } @sample;
my @balance = map {
    collector('many-machines-balance.yaml', { grpc => 1, http => 2 }, <<"END");
${both}exporters: {loadbalancing: {resolver: {static: {hostnames: [$hosts]}}}}
END
} 1 .. 2;

my $inner = gateway('httpd', exporter('httpd', otlp_to($balance[1])));
my $at = '127.0.0.1:' . $inner->port;
my $outer = gateway('nginx', exporter('nginx', otlp_to($balance[0])),
    upstreams => { live => "$at/live", dead => "$at/dead" });

sub traces {
    my ($path, $n) = @_;
    return map {
        my $id = random_id(16);
        http_get($outer->port, $path,
            headers => [ [ traceparent => "00-$id-" . random_id(8) . '-01' ] ]);
        $id;
    } 1 .. $n;
}

my @dull = traces('/live/x', 30);
my @wrong = traces('/dead/x', 20);

# What each Collector has of each trace.
wait_for(sub {
    @wrong == grep { my $id = $_; 4 <= map { $_->spans($id) } @sample } @wrong;
}, 30, 'all spans of the failed requests');
my %spans = map { my $id = $_; $id => [ map { [ $_->spans($id) ] } @sample ] } @wrong;

is_deeply [ map { join ' ', sort { $a <=> $b } map { scalar @$_ } @{ $spans{$_} } } @wrong ],
    [ ('0 4') x @wrong ], 'failed: each trace is whole, and at one Collector only';
my @kept = map { my $i = $_; scalar grep { @{ $_->[$i] } } values %spans } 0, 1;
ok $kept[0] && $kept[1], 'both Collectors have had some' or diag "@kept";

my ($trace) = grep {@$_} @{ $spans{ $wrong[0] } };
my ($first) = grep { $_->{service} eq 'Edge-nginx' && $_->{kind} eq 'SERVER' } @$trace;
my @chain = ($first);
while (my ($child) = grep { $_->{parent} eq $chain[-1]{span_id} } @$trace) { push @chain, $child }
is join(', ', map {"$_->{service} $_->{kind}"} @chain),
    'Edge-nginx SERVER, Edge-nginx CLIENT, Edge-httpd SERVER, Edge-httpd CLIENT',
    'one below the other';

# One of twenty stays.
my $stayed = grep { my $id = $_; grep { $_->spans($id) } @sample } @dull;
cmp_ok $stayed, '<', 15, "successful: $stayed of " . @dull . ' traces were kept';

# X-Ray: the segments of a trace, as the exporter sends them.
my ($date, $rest) = $wrong[0] =~ /^(.{8})(.*)/;
my %segment;
eval {
    wait_for(sub {
        %segment = map { $_->{id} => $_ } grep { $_->{trace_id} eq "1-$date-$rest" }
            map { JSON::PP::decode_json($_) }
            map { @{ JSON::PP::decode_json($xray->body($_))->{TraceSegmentDocuments} } }
            grep { $_->{path} eq '/TraceSegments' } $xray->requests;
        return keys %segment >= 4;
    }, 10, 'segments');
} or diag $@, map {"$_->{request_line}\n"} $xray->requests;
for my $span (@chain) {
    my $segment = $segment{ $span->{span_id} } // {};
    is $segment->{parent_id}, $span->{parent}, "X-Ray: parent of $span->{service} $span->{kind}";
    ok $segment->{fault}, 'X-Ray: it is a fault' or diag explain $segment;
}
is $segment{ $first->{span_id} }{name}, 'Edge-nginx', 'X-Ray: name of a service';

$_->finish for $outer, $inner, @balance, @sample;
$xray->stop;

done_testing;
