# Several endpoints in one exporter: the next takes over when one fails, and the
# first gets its spans back when it has recovered.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::Edge;
use EdgespanTest::Faults;

# All spans that were made are at one of the collectors, each once.
sub account_of {
    my ($s, @collectors) = @_;
    my %count;
    for my $c (@collectors) {
        my $ids = $c->span_ids_fast;
        $count{$_} += $ids->{$_} for keys %$ids;
    }
    my $made = made($s);
    is_deeply [ scalar keys %count, scalar grep { $_ > 1 } values %count ],
        [ scalar keys %$made, 0 ], keys(%$made) . ' made, received once each';
    return;
}

sub received { return scalar keys %{ $_[0]->span_ids_fast } }

for my $kind (qw(nginx httpd)) {
    subtest "$kind: there and back" => sub {
        my ($first, $second) = map { EdgespanTest::Collector->new } 1, 2;
        my $s = edge($kind, [ endpoint => $second->url ], collector => $first);
        burst($s, 500);
        wait_for(sub { received($first) == 500 }, 10, 'spans at home');
        is received($second), 0, 'the second is not asked as long as the first answers';

        $first->stop;
        burst($s, 500);
        wait_for(sub { received($second) == 500 }, 10, 'spans at the second');
        $s->wait_log(qr/exporting to \Q${\ $first->url}\E: it failed and is tried again/);

        $first->start;
        my $before = received($first);
        wait_for(sub { burst($s, 10); received($first) > $before + 50 }, 30, 'spans at home again');
        # What is in flight to the second may still come.
        my $then = received($second);
        burst($s, 500);
        $s->stop;
        is received($second), $then, 'and no more at the second';
        account_of($s, $first, $second);
        quiet_log($s);
        $s->finish;
    };

    subtest "$kind: the first wants to be asked later" => sub {
        my ($first, $second) = map { EdgespanTest::Collector->new } 1, 2;
        $first->mode('status:503:Retry-After=3600');
        my $s = edge($kind, [ endpoint => $second->url ], collector => $first);
        burst($s, 500);
        wait_for(sub { received($second) == 500 }, 10, 'spans at the second');
        $s->stop;
        account_of($s, $first, $second);
        $s->finish;
    };

    subtest "$kind: none answers, then the last does" => sub {
        my @c = map { EdgespanTest::Collector->new } 1 .. 3;
        $_->stop for @c;
        my $s = edge($kind, [ endpoint => $c[1]->url, endpoint => $c[2]->url ],
            collector => $c[0]);
        burst($s, 500);
        $s->wait_log(qr/it failed and is tried again/);
        $c[2]->start;
        wait_for(sub { received($c[2]) == 500 }, 10, 'spans at the third');
        $s->stop;
        account_of($s, @c);
        $s->finish;
    };
}

done_testing;
