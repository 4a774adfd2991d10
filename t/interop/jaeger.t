# Jaeger: OTLP, and the ways of older versions that it still takes.

use strict;
use warnings;
use Test::More;
use EdgespanTest::Interop;
use EdgespanTest::InteropJaeger;

my $jaeger = EdgespanTest::InteropJaeger->new->start;
my $host = 'http://127.0.0.1';

my @ways = (
    [ 'http/protobuf' => [ endpoint => "$host:" . $jaeger->port_of('http'),
        protocol => 'http/protobuf' ] ],
    [ 'http/json' => [ endpoint => "$host:" . $jaeger->port_of('http'),
        protocol => 'http/json' ] ],
    [ 'grpc' => [ endpoint => "$host:" . $jaeger->port_of('grpc'), protocol => 'grpc' ] ],
    [ 'grpc, gzip' => [ endpoint => "$host:" . $jaeger->port_of('grpc'), protocol => 'grpc',
        compression => 'gzip' ] ],
    [ 'jaeger' => [ endpoint => "$host:" . $jaeger->port_of('thrift') . '/api/traces',
        protocol => 'jaeger' ] ],
    [ 'zipkin' => [ endpoint => "$host:" . $jaeger->port_of('zipkin') . '/api/v2/spans',
        protocol => 'zipkin' ] ],
);

for my $kind (@SERVERS) {
    for (@ways) {
        my ($way, $options) = @$_;
        arrives($way, $kind, $options, $jaeger);
    }
}
$jaeger->finish;

done_testing;
