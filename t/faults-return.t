# A collector that dies under load and comes back: nothing that was made meanwhile
# is lost, and it all arrives at once.

use strict;
use warnings;

use List::Util qw(max);
use Test::More;
use Time::HiRes qw(sleep time);

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::Edge;
use EdgespanTest::Faults;

my $AWAY = 10;
my $SPANS = 10_000;

for my $kind (split ' ', $ENV{KIND} // 'nginx httpd') {
    subtest "$kind: $SPANS spans in $AWAY s without a collector" => sub {
        my $c = EdgespanTest::Collector->new;
        my $s = edge($kind, [], collector => $c);
        burst($s, 1000);

        # It dies in the middle of this burst.
        my $load = fork // die "fork: $!";
        if (!$load) {
            burst($s, 4000);
            POSIX::_exit(0);
        }
        wait_for(sub { keys %{ made($s) } > 1500 }, 10, 'load');
        $c->stop;
        my $died = time;
        waitpid $load, 0;
        is $?, 0, 'no request of the load failed';

        my $before = keys %{ made($s) };
        burst($s, $SPANS);
        my $left = $died + $AWAY - time;
        sleep $left if $left > 0;
        my $back = time;
        $c->start;

        my $missing;
        ok eval {
            wait_for(sub {
                my $ids = $c->span_ids_fast;
                return !($missing = grep { !$ids->{$_} } keys %{ made($s) });
            }, 20, 'every span');
        }, 'every span arrives' or diag "$missing are missing";
        my $last = max(map { $_->{time} } $c->requests);
        cmp_ok $last - $back, '<', 8,
            sprintf '%d spans within %.2f s of its return', $SPANS, $last - $back;

        $s->stop;
        account($s, $c, 0);
        quiet_log($s);
        like $s->error_log, qr/exporting to \S+: works again/, 'the log says that it is back';
        $s->finish;
    };
}

done_testing;
