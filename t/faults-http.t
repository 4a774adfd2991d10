# Whatever a collector does that takes OTLP over HTTP.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::Faults;

my $REJECTED = 'rejected by the collector';
my $SHUTDOWN = 'not delivered before the shutdown timeout';

for my $kind (split ' ', $ENV{KIND} // 'nginx httpd') {
    fault($kind, 'down at the start', prepare => sub { $_[0]->stop }, lost => [$SHUTDOWN],
        log => qr/it failed and is tried again: .*onnect/, heal => sub { $_[0]->start });

    fault($kind, 'accepts and never answers', mode => 'hang', lost => [$SHUTDOWN],
        log => qr/it failed and is tried again: .*timed out/);

    fault($kind, 'answers one byte per second', mode => 'drip', lost => [$SHUTDOWN],
        log => qr/it failed and is tried again: .*timed out/);

    fault($kind, 'resets every third request', mode => 'reset:3', timeout => '10s',
        lost => [$SHUTDOWN]);

    fault($kind, "$_ with Retry-After 2", mode => "status:$_:Retry-After=2",
        lost => [$SHUTDOWN], log => qr/it failed and is tried again: HTTP $_/,
        heal => sub { $_[0]->mode('ok') })
        for 429, 503;

    fault($kind, $_, mode => "status:$_", lost => [$REJECTED],
        log => qr/a batch was rejected: HTTP $_/)
        for 400, 413;

    fault($kind, 'partial success', mode => 'partial:1', partial => 1,
        lost => [$REJECTED],
        log => qr/a part of a batch was rejected: x/);

    fault($kind, 'an answer of 1 GiB', mode => 'flood:1073741824', lost => [$REJECTED, $SHUTDOWN],
        log => qr/a batch was rejected: its answer is too large/);

    fault($kind, 'a name that never resolves', endpoint => 'http://edgespan.invalid:4318',
        lost => [$SHUTDOWN], log => qr/it failed and is tried again: .*resolve host/);
}

done_testing;
