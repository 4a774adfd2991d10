# The OpenTelemetry Collector: every protocol, plain and compressed.

use strict;
use warnings;
use Test::More;
use EdgespanTest::Interop;
use EdgespanTest::InteropCollector;
use EdgespanTest::Nginx;

my $collector = EdgespanTest::InteropCollector->new->start;
my %at = map { $_ => 'http://127.0.0.1:' . $collector->port_of($_) } qw(http grpc zipkin jaeger);

# The Collector takes OTLP/HTTP from TCP only; on one machine a proxy is before it.
my $socket = $collector->prefix . '/run/http.sock';
my $proxy = EdgespanTest::Nginx->new(module => 0, name => 'proxy on a socket', http => <<"END")->start;
    server {
        listen unix:$socket;
        location / { proxy_pass $at{http}; }
    }
END

my @protocols = (
    [ 'http/protobuf' => [ endpoint => $at{http}, protocol => 'http/protobuf' ] ],
    [ 'http/json' => [ endpoint => $at{http}, protocol => 'http/json' ] ],
    [ 'grpc' => [ endpoint => $at{grpc}, protocol => 'grpc' ] ],
    [ 'zipkin' => [ endpoint => "$at{zipkin}/api/v2/spans", protocol => 'zipkin' ] ],
    [ 'jaeger' => [ endpoint => "$at{jaeger}/api/traces", protocol => 'jaeger' ] ],
);
my @ways = (
    [ 'http/protobuf by default' => [ endpoint => "$at{http}/v1/traces" ] ],
    @protocols,
    (map { [ "$_->[0], gzip" => [ @{ $_->[1] }, compression => 'gzip' ] ] } @protocols),
    [ 'http/protobuf, a socket' => [ endpoint => "unix:$socket", protocol => 'http/protobuf' ] ],
    [ 'grpc, a socket' => [ endpoint => 'unix:' . $collector->grpc_socket, protocol => 'grpc' ] ],
);

for my $kind (@SERVERS) {
    for (@ways) {
        my ($way, $options) = @$_;
        arrives($way, $kind, $options, $collector);
    }
}
$proxy->finish;
$collector->finish;

done_testing;
