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
my @known  = (trusted_certificate => "$tls->{ca}.crt");
my @client = (client_certificate => "$tls->{client}.crt", client_certificate_key => "$tls->{client}.key");

sub way {
    my ($protocol, $receiver, @options) = @_;
    return [ endpoint => 'https://localhost:' . $collector->port_of("${receiver}_$protocols{$protocol}"),
        protocol => $protocol, @options ];
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
            way($protocol, 'tls', trusted_certificate => "$tls->{stranger}.crt"), qr/certificate/i ],
        [ "$protocol, TLS by nobody known", way($protocol, 'tls'), qr/certificate/i ],
        [ "$protocol, mTLS without a certificate", way($protocol, 'mtls', @known),
            qr/certificate|alert|SSL/i ];
}

for my $kind (@SERVERS) {
    for (@good) {
        my ($way, $options) = @$_;
        arrives($way, $kind, $options, $collector);
    }
    for (@bad) {
        my ($way, $options, $message) = @$_;
        refused($way, $kind, $options, $collector, $message);
    }
}
$collector->finish;

done_testing;
