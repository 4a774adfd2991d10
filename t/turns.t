# What the exporter thread does while there is nothing that it could do: a clock
# that differs, a spool that another process replays, a neighbour that hangs.

use strict;
use warnings;

use IO::Socket::INET;
use List::Util qw(max sum0);
use POSIX qw(strftime);
use Test::More;
use Time::HiRes qw(sleep time);

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::Edge;

my $SHUTDOWN = 'not delivered before the shutdown timeout';

for my $kind (split ' ', $ENV{KIND} // 'nginx httpd') {

    # libcurl gives the seconds from now, however few.
    for my $ago (5, 10 * 365 * 86400) {
        subtest "$kind: Retry-After $ago s ago" => sub {
            my $date = strftime('%a, %d %b %Y %H:%M:%S GMT', gmtime time - $ago);
            my $c = EdgespanTest::Collector->new(mode => "status:503:Retry-After=$date");
            my $s = edge($kind, [], collector => $c);
            burst($s, 100);
            wait_for(sub { scalar(() = $c->requests) }, 5, 'a try');
            sleep 2;
            my $tries = () = $c->requests;
            cmp_ok $tries, '>', 1, 'it is tried again';
            cmp_ok $tries, '<', 20, "and no more than is due: $tries times";
            $c->mode('ok');
            ok eval {
                wait_for(sub { keys %{ $c->span_ids_fast } == 100 }, 5, 'all spans');
            }, 'all spans arrive';
            $s->stop;
            $s->finish;
        };
    }
}

done_testing;
