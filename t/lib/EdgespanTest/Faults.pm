# What has to hold whatever is wrong with the collector, as one procedure: load,
# three reloads in a row, the fault's end if it has one, the stop, the account.
package EdgespanTest::Faults;

use strict;
use warnings;

use Exporter 'import';
use List::Util qw(max sum0);
use Test::More;
use Time::HiRes qw(sleep time);

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::Edge;

our @EXPORT = qw(fault account quiet_log);

my $SHUTDOWN_TIMEOUT = 1;

# A stop is to last no longer than that; what a machine adds that is slow or does
# something else is not the server's.
my $STOP_MAX = $SHUTDOWN_TIMEOUT + 5;

sub _p99_us { return 1e6 * percentile(99, latencies($_[0], 500)) }

# One with a healthy collector, the yardstick: one for all faults of a kind.
{
    my %healthy;
    sub _healthy { return $healthy{ $_[0] } //= edge($_[0], []) }
}

# Options: mode or prepare (what is wrong: the collector's mode, or code that gets
# the collector), exporter (options), timeout (of a request; a machine that stands still
# for that long gets it again, though it was taken), endpoint, heal (code after which
# everything that waits has to arrive), lost (the only reasons for which spans may
# be dropped; default none), log (a regex that the one line about it matches),
# partial (the collector says that it dropped some of what it got).
sub fault {
    my ($kind, $name, %opt) = @_;
    my $c = $opt{collector} // EdgespanTest::Collector->new;
    my $healthy = _healthy($kind);
    $c->mode($opt{mode}) if $opt{mode};
    $opt{prepare}->($c) if $opt{prepare};

    subtest "$kind: $name" => sub {
        my $s = edge($kind, [ timeout => $opt{timeout} // '1s', shutdown_timeout => "${SHUTDOWN_TIMEOUT}s",
                @{ $opt{exporter} // [] } ],
            collector => $c, $opt{endpoint} ? (endpoint => $opt{endpoint}) : (),
            $opt{server} ? %{ $opt{server} } : ());
        latencies($s, 100);
        $s->wait_log($opt{log}, 10) if $opt{log};

        # The best of some, side by side: a fault harms each of them, the machine's
        # noise not.
        my ($p99, $usual);
        for (1 .. 10) {
            ($usual, $p99) = map { _p99_us($_) } $healthy, $s;
            last if $p99 < 2 * $usual + 200;
        }
        cmp_ok $p99, '<', 2 * $usual + 200,
            sprintf 'p99 %.0f us, healthy %.0f us', $p99, $usual;

        burst($s, 2000);
        my %rss = map { $_ => rss_kb($_) } $s->worker_pids;
        cmp_ok max(values %rss), '<', 60_000, 'memory is bounded: ' . max(values %rss) . ' kB'
            unless $s->{sanitized};

        for (1 .. 3) {
            burst($s, 50);
            $s->reload(undef, drain => 0);
        }
        my @new = $s->worker_pids;
        my $from = time;
        ok eval {
            wait_for(sub { _workers($s) <= @new }, $STOP_MAX + 1, 'old workers to end');
        }, sprintf 'no old worker %.1f s after three reloads', time - $from;

        $opt{heal}->($c) if $opt{heal};
        burst($s, 50);
        all_arrived($s, $c) if $opt{heal};

        my $took = $s->stop;
        cmp_ok $took, '<', $STOP_MAX, sprintf 'stopped in %.2f s', $took;
        account($s, $c, $opt{partial}, @{ $opt{lost} // [] });
        quiet_log($s);
        $s->finish;
    };
    return;
}

# All processes that serve or once did.
sub _workers {
    my ($s) = @_;
    return scalar($s->kind eq 'nginx'
        ? $s->worker_pids(shutting_down => 1) : $s->worker_pids);
}

sub all_arrived {
    my ($s, $c) = @_;
    my $missing;
    my $ok = eval {
        wait_for(sub {
            my $ids = $c->span_ids_fast;
            $missing = grep { !$ids->{$_} } keys %{ made($s) };
            $missing <= sum0 values %{ dropped_spans($s) };
        }, 15, 'all spans');
    };
    ok $ok, 'afterwards all of it arrives' or diag "$missing spans are missing";
    return;
}

# Every span that was made arrived, once, or was counted, for one of @reasons; what
# a partial success counts has arrived, as far as the wire knows.
sub account {
    my ($s, $c, $partial, @reasons) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $made = keys %{ made($s) };
    my $ids = $c->span_ids_fast;
    my $dropped = dropped_spans($s);
    my $counted = sum0 values %$dropped;
    my $doubled = grep { $_ > 1 } values %$ids;
    is keys(%$ids) + ($partial ? 0 : $counted), $made, sprintf '%d made = %d received + %d counted (%s)',
        $made, scalar(keys %$ids), $counted,
        join(', ', map {"$_: $dropped->{$_}"} sort keys %$dropped) || 'none';
    my $answers = grep { $_->{answered} eq '200' } $c->requests;
    is $counted, $answers, 'one per answer is counted' if $partial;
    is $doubled, 0, 'none came twice';
    my %allowed = map { $_ => 1 } @reasons;
    is join(', ', grep { !$allowed{$_} } sort keys %$dropped), '', 'none dropped for another reason';
    return;
}

# One line a minute per cause.
sub quiet_log {
    my ($s) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $most = 1 + int((time - $s->{since}) / 60);
    my %lines;
    for my $line ($s->error_log =~ /edgespan: (exporting to .*)/g) {
        $line =~ s/^(exporting to \S+: [^:]*).*/$1/;
        $lines{$line}++ unless $line =~ /since the server's start/;
    }
    is join("\n", map {"$lines{$_} times: $_"} grep { $lines{$_} > $most } sort keys %lines), '',
        'one line per cause';
    return;
}

1;
