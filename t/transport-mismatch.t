# An exporter whose protocol is not its endpoint's says so, with the remedy, and
# loses nothing until somebody has mended it.

use strict;
use warnings;

use IO::Socket::INET;
use Test::More;

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::GrpcCollector;
use EdgespanTest::Edge;
use EdgespanTest::Nginx;

my $missing = EdgespanTest::GrpcCollector::missing();
plan skip_all => $missing if $missing;

my $dir = tmpdir();
system("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    . " -keyout $dir/key.pem -out $dir/cert.pem 2>/dev/null") == 0
    or die 'openssl failed';

my $grpc = EdgespanTest::GrpcCollector->new;
my $http = EdgespanTest::Collector->new;
# Ports: 1 plain HTTP/1, 2 TLS with HTTP/1 only, 3 TLS with HTTP/2 as well.
my $peer = EdgespanTest::Nginx->new(module => 0, workers => 1, http => <<"CONF");
ssl_certificate $dir/cert.pem;
ssl_certificate_key $dir/key.pem;
server { listen 127.0.0.1:%%PORT1%%; listen 127.0.0.1:%%PORT2%% ssl; }
server { listen 127.0.0.1:%%PORT3%% ssl http2; }
CONF
$peer->start;

# Takes a connection, waits for a first byte and closes.
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 10)
    or die "listen: $!";
my $closer = fork // die "fork: $!";
if (!$closer) {
    open STDOUT, '>', '/dev/null' or die $!;
    while (my $sock = $listener->accept) { sysread $sock, my $byte, 1 }
    exec 'true';
}
at_end(0, sub { local $?; kill KILL => $closer; waitpid $closer, 0 });

my $to_http = qr/OTLP\/HTTP receiver \(port 4318 by default\).* protocol http\/protobuf/;
my $to_grpc = qr/gRPC receiver \(port 4317 by default\).* protocol grpc/;
my $to_tls = qr/https:\/\/ endpoint/;
my $to_plain = qr/does not speak TLS: set an http:\/\/ endpoint/;
my $peer_port = sub { '127.0.0.1:' . $peer->port($_[0]) };
my $path = '/v1/traces';

my @cases = (
    [ 'gRPC to a collector of OTLP/HTTP', 'grpc', 'http://127.0.0.1:'
        . $http->port, $to_http ],
    [ 'gRPC to plain HTTP/1', 'grpc', 'http://' . $peer_port->(1), $to_http ],
    [ 'gRPC to TLS', 'grpc', 'http://' . $peer_port->(3), $to_tls ],
    [ 'gRPC with TLS to plain HTTP/1', 'grpc', 'https://' . $peer_port->(1),
        $to_plain ],
    [ 'gRPC with TLS to plain gRPC', 'grpc', 'https://127.0.0.1:' . $grpc->port,
        $to_plain ],
    [ 'gRPC with TLS to HTTP/1 with TLS', 'grpc', 'https://' . $peer_port->(2),
        qr/answers HTTP\/1.1, and protocol grpc needs HTTP\/2: .*$to_http/ ],
    [ 'gRPC to who closes', 'grpc', 'http://127.0.0.1:' . $listener->sockport,
        qr/$to_http, one with TLS an $to_tls/ ],
    [ 'HTTP to gRPC', 'http/protobuf', 'http://127.0.0.1:' . $grpc->port . $path,
        qr/speaks HTTP\/2 only, as .*$to_grpc/ ],
    [ 'HTTP to TLS', 'http/protobuf', 'http://' . $peer_port->(3) . $path,
        qr/speaks TLS only: set an $to_tls/ ],
    [ 'HTTP to who closes', 'http/protobuf',
        'http://127.0.0.1:' . $listener->sockport . $path,
        qr/$to_grpc, one with TLS an $to_tls/ ],
    [ 'HTTPS to plain HTTP', 'http/protobuf', 'https://' . $peer_port->(1)
        . $path, $to_plain ],
    [ 'HTTPS to gRPC', 'http/protobuf', 'https://127.0.0.1:' . $grpc->port
        . $path, $to_plain ],
);

for my $kind (qw(nginx httpd)) {
    for my $case (@cases) {
        my ($name, $protocol, $endpoint, $expected) = @$case;
        subtest "$kind: $name" => sub {
            my $s = edge($kind, [ protocol => $protocol,
                ssl_verify => 'off' ], endpoint => $endpoint);
            request($s, 5);
            $s->wait_log(qr/exporting to \S+: it failed and is tried again: .*$expected/, 15);
            is scalar(() = $s->error_log =~ /exporting to \S+: it failed/g), 1,
                'said once';
            $s->stop;
            is_deeply dropped_spans($s),
                { 'not delivered before the shutdown timeout' => 5 },
                'nothing was lost until the stop';
            $s->finish;
        };
    }
}
$peer->stop;
$peer->finish;

done_testing;
