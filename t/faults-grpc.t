# Whatever a collector does that takes OTLP over gRPC.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::Faults;
use EdgespanTest::GrpcCollector;

my $missing = EdgespanTest::GrpcCollector::missing();
plan skip_all => $missing if $missing;

my $REJECTED = 'rejected by the collector';
my $SHUTDOWN = 'not delivered before the shutdown timeout';
my @GRPC = (exporter => [ protocol => 'grpc' ]);

sub grpc { return (collector => EdgespanTest::GrpcCollector->new, @GRPC) }

for my $kind (split ' ', $ENV{KIND} // 'nginx httpd') {
    fault($kind, 'gRPC: GOAWAY behind every third answer', grpc(), mode => 'goaway:3',
        lost => [$SHUTDOWN]);

    fault($kind, 'gRPC: GOAWAY instead of answers', grpc(), mode => 'goaway',
        lost => [$SHUTDOWN], log => qr/it failed and is tried again: /,
        heal => sub { $_[0]->mode('ok') });

    # REFUSED_STREAM is UNAVAILABLE, INTERNAL_ERROR is INTERNAL.
    fault($kind, 'gRPC: RST_STREAM, refused', grpc(), mode => 'rst:7', lost => [$SHUTDOWN],
        log => qr/it failed and is tried again: /, heal => sub { $_[0]->mode('ok') });
    fault($kind, 'gRPC: RST_STREAM, internal error', grpc(), mode => 'rst:2',
        lost => [$REJECTED], log => qr/a batch was rejected: /);

    fault($kind, 'gRPC: RESOURCE_EXHAUSTED', grpc(), mode => 'status:8:too much',
        lost => [$REJECTED], log => qr/a batch was rejected: .*too much/);
    fault($kind, 'gRPC: RESOURCE_EXHAUSTED with RetryInfo', grpc(), mode => 'status:8:later:2',
        lost => [$SHUTDOWN], log => qr/it failed and is tried again: .*later/,
        heal => sub { $_[0]->mode('ok') });

    fault($kind, 'gRPC: accepts and never answers', grpc(), mode => 'hang', lost => [$SHUTDOWN],
        log => qr/it failed and is tried again: .*timed out/);
}

done_testing;
