# Zipkin's server.

use strict;
use warnings;
use Test::More;
use EdgespanTest::Interop;
use EdgespanTest::InteropZipkin;

my $zipkin = EdgespanTest::InteropZipkin->new->start;
my $at = 'http://127.0.0.1:' . $zipkin->port_of('http');

# Both ways to say where it is.
my %way = (
    'zipkin' => [ endpoint => "$at/api/v2/spans", protocol => 'zipkin' ],
    'zipkin, gzip' => [ endpoint => $at, protocol => 'zipkin', compression => 'gzip' ],
);

for my $kind (@SERVERS) {
    for my $way (sort keys %way) {
        arrives($way, $kind, $way{$way}, $zipkin, lower => 1);
    }
}
$zipkin->finish;

done_testing;
