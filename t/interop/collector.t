# The OpenTelemetry Collector: every protocol, plain and compressed.

use strict;
use warnings;
use Test::More;
use EdgespanTest;
use EdgespanTest::Interop;
use EdgespanTest::InteropCollector;
use EdgespanTest::Nginx;

my $collector = EdgespanTest::InteropCollector->new->start;
my %at = map { $_ => 'http://127.0.0.1:' . $collector->port_of($_) } qw(http grpc zipkin jaeger);

# The Collector takes OTLP/HTTP from TCP only: a proxy is before it, which also tells
# how the bodies came.
my $socket = $collector->prefix . '/run/http.sock';
my $proxy = EdgespanTest::Nginx->new(module => 0, name => 'the proxy', http => <<"END")->start;
    log_format coding "\$http_content_encoding|\$http_content_type|\$status";
    access_log %%PREFIX%%/coding.log coding;
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
    [ 'http/json, gzip, a socket' => [ endpoint => "unix:$socket:/v1/traces",
        protocol => 'http/json', compression => 'gzip' ] ],
    [ 'grpc, a socket' => [ endpoint => 'unix:' . $collector->grpc_socket, protocol => 'grpc' ] ],
);

for my $kind (@SERVERS) {
    for (@ways) {
        my ($way, $options) = @$_;
        arrives($way, $kind, $options, $collector);
    }
}

my %seen = map { $_ => 1 } split /\n/, slurp($proxy->prefix . '/coding.log');
is_deeply \%seen, { '-|application/x-protobuf|200' => 1, 'gzip|application/json|200' => 1 },
    'bodies were compressed as configured' or diag explain \%seen;

$proxy->finish;
$collector->finish;

done_testing;
