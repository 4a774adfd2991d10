# The OpenTelemetry Collector behind TLS: with an authority of its own, with a
# client's certificate, and what must not work.

use strict;
use warnings;
use Test::More;
use EdgespanTest::Interop;
use EdgespanTest::InteropCollector;

my $collector = EdgespanTest::InteropCollector->new->start;
my $tls = $collector->tls;

my %protocols = ('http/protobuf' => 'http', 'http/json' => 'http', grpc => 'grpc');
my @known  = (trusted_certificate => $tls->file('ca.pem'));

sub client {
    my ($name) = @_;
    return (client_certificate => $tls->file("$name.pem"),
        client_certificate_key => $tls->file("$name.key"));
}
my @client = client('client');

sub way {
    my ($protocol, $receiver, @options) = @_;
    my $port = $collector->port_of("${receiver}_$protocols{$protocol}");
    return [ endpoint => "https://localhost:$port", protocol => $protocol, @options ];
}

my (@good, @bad);
for my $protocol (sort keys %protocols) {
    push @good,
        [ "$protocol, TLS", way($protocol, 'tls', @known) ],
        [ "$protocol, TLS, gzip", way($protocol, 'tls', @known, compression => 'gzip') ],
        [ "$protocol, TLS unverified", way($protocol, 'tls', ssl_verify => 'off') ],
        [ "$protocol, mTLS", way($protocol, 'mtls', @known, @client) ],
        [ "$protocol, mTLS, gzip", way($protocol, 'mtls', @known, @client, compression => 'gzip') ];
    push @bad,
        [ "$protocol, TLS by a stranger",
            way($protocol, 'tls', trusted_certificate => $tls->file('stranger.pem')) ],
        [ "$protocol, TLS by nobody known", way($protocol, 'tls') ],
        [ "$protocol, mTLS without a certificate", way($protocol, 'mtls', @known) ],
        [ "$protocol, mTLS with a stranger's", way($protocol, 'mtls', @known, client('intruder')) ];
}

for my $kind (@SERVERS) {
    for (@good) {
        my ($way, $options) = @$_;
        arrives($way, $kind, $options, $collector);
    }
    for (@bad) {
        my ($way, $options) = @$_;
        refused($way, $kind, $options, $collector, qr/exporting to .*(?:certificate|unknown ca)/i);
    }
}
$collector->finish;

done_testing;
