# The disk spool: what a collector misses while it stays away, the server is
# stopped, reloaded or killed meanwhile, arrives when both are back.

use strict;
use warnings;

use List::Util qw(sum0);
use Test::More;
use Time::HiRes qw(sleep);

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::Edge;
use EdgespanTest::Faults;

my $SPOOL_FULL = 'spool full';
my $TORN = 'corrupt in the spool';
my $SETTLED = unpack 'V', 'done';

# A directory that a server may give to its workers, and what is in it.
sub spool_dir { return tmpdir() . '/spool' }

sub segments { my @files = sort glob "$_[0]/*.spool"; return @files }

# Spans in the records that were not settled, by the heads alone: magic, length,
# spans, two checksums, state.
sub spooled {
    my ($dir) = @_;
    my $spans = 0;
    for my $file (segments($dir)) {
        my $bytes = slurp($file) // '';
        while (length $bytes >= 24) {
            my ($magic, $length, $n, undef, undef, $state) = unpack 'a4 V5', $bytes;
            last if $magic ne 'ESR1' || length $bytes < 24 + $length;
            $spans += $n unless $state == $SETTLED;
            substr $bytes, 0, 24 + $length, '';
        }
    }
    return $spans;
}

sub made_count { return scalar keys %{ made($_[0]) } }

sub await_spooled {
    my ($s, $dir) = @_;
    return wait_for(sub { spooled($dir) == made_count($s) }, 30, 'all spans in the spool');
}

# All spans of several runs arrive, each once, and the directory is empty then.
sub await_all {
    my ($c, $dir, %made) = @_;
    my $ids;
    ok eval {
        wait_for(sub { $ids = $c->span_ids_fast; !grep { !$ids->{$_} } keys %made }, 20,
            'all spans');
    }, scalar(keys %made) . ' spans arrive';
    is scalar(grep { $_ > 1 } values %$ids), 0, 'none came twice';
    ok eval { wait_for(sub { !segments($dir) }, 10, 'an empty spool') }, 'the spool is empty';
    return;
}

sub spooling {
    my ($kind, $c, $dir, @options) = @_;
    return edge($kind, [ timeout => '1s', spool => "$dir max=64m", @options ], collector => $c);
}

for my $kind (split ' ', $ENV{KIND} // 'nginx httpd') {
    subtest "$kind: killed, all of it, and started again" => sub {
        my $c = EdgespanTest::Collector->new;
        my $dir = spool_dir();
        my $s = spooling($kind, $c, $dir);
        $c->stop;
        burst($s, 3000);
        await_spooled($s, $dir);
        my %made = %{ made($s) };
        kill KILL => EdgespanTest::session_pids($s->{session});
        wait_for(sub { !$s->running }, 5, 'the end of the server');
        $s->stop;

        $c->start;
        my $again = spooling($kind, $c, $dir);
        await_all($c, $dir, %made);
        burst($again, 100);
        $again->stop;
        await_all($c, $dir, %made, %{ made($again) });
        is_deeply dropped_spans($again), {}, 'nothing was dropped';
        $again->finish;
    };

    subtest "$kind: told once, and that it is over" => sub {
        my $c = EdgespanTest::Collector->new;
        my $dir = spool_dir();
        my $s = spooling($kind, $c, $dir);
        $c->mode('status:503');
        burst($s, 1000);
        await_spooled($s, $dir);
        burst($s, 1000);
        await_spooled($s, $dir);
        $c->mode('ok');
        $s->wait_log(qr/exporting to \S+: the spool is empty/, 15);
        $s->stop;
        my @told = $s->error_log =~ /exporting to \S+: (.*spool.*)/g;
        is_deeply \@told, [ "spans go to the spool $dir for now", 'the spool is empty' ],
            'one line each';
        account($s, $c, 0);
        $s->finish;
    };

    subtest "$kind: reloaded three times and stopped meanwhile" => sub {
        my $c = EdgespanTest::Collector->new;
        my $dir = spool_dir();
        my $s = spooling($kind, $c, $dir);
        $c->mode('hang');
        for (1 .. 3) {
            burst($s, 300);
            $s->reload(undef, drain => 1);
        }
        burst($s, 300);
        my $took = $s->stop;
        cmp_ok $took, '<', 8, sprintf 'stopped in %.2f s', $took;
        my %made = %{ made($s) };
        is spooled($dir), keys %made, 'all of it is on the disk';
        is_deeply dropped_spans($s), {}, 'nothing was dropped';
        $s->finish;

        $c->mode('ok');
        my $again = spooling($kind, $c, $dir);
        await_all($c, $dir, %made);
        $again->stop;
        $again->finish;
    };

    subtest "$kind: full" => sub {
        my $c = EdgespanTest::Collector->new;
        my $dir = spool_dir();
        my $s = edge($kind, [ timeout => '1s', spool => "$dir max=1m" ], collector => $c);
        $c->stop;
        # The oldest goes: what is spooled first is not what comes back.
        for (1 .. 4) {
            burst($s, 3000);
            wait_for(sub { segments($dir) }, 15, 'a segment');
        }
        burst($s, 1000);
        cmp_ok sum0(map { -s } segments($dir)), '<=', 1 << 20, 'max is kept';
        $c->start;
        $s->wait_log(qr/works again/, 10);
        wait_for(sub { !segments($dir) }, 15, 'an empty spool');
        $s->stop;
        account($s, $c, 0, $SPOOL_FULL);
        cmp_ok dropped_spans($s)->{$SPOOL_FULL} // 0, '>', 0, 'the oldest were given up';
        $s->finish;
    };

    # What is under way goes to the disk too, is removed there to make room, and is
    # delivered all the same: that is no loss.
    subtest "$kind: full, and the collector slow" => sub {
        my $c = EdgespanTest::Collector->new(mode => 'slow:3');
        my $dir = spool_dir();
        my $s = edge($kind, [ queue_size => '1m', spool => "$dir max=1m" ], collector => $c);
        for (1 .. 8) {
            burst($s, 1000);
            sleep 0.3;
        }
        wait_for(sub { keys %{ $c->span_ids_fast } > 0 }, 10, 'the first answers');
        $c->mode('ok');
        # What a stop finds under way stays on the disk.
        wait_for(sub { !segments($dir) && !grep { $_->{answered} eq 'no' } $c->requests },
            20, 'an empty spool and all answers');
        $s->stop;
        is spooled($dir), 0, 'nothing is left';
        account($s, $c, 0, $SPOOL_FULL);
        $s->finish;
    };

    subtest "$kind: torn" => sub {
        my $c = EdgespanTest::Collector->new;
        my $dir = spool_dir();
        my $s = spooling($kind, $c, $dir);
        $c->stop;
        burst($s, 2000);
        await_spooled($s, $dir);
        burst($s, 500);
        await_spooled($s, $dir);
        my %made = %{ made($s) };
        kill KILL => EdgespanTest::session_pids($s->{session});
        wait_for(sub { !$s->running }, 5, 'the end of the server');
        $s->stop;

        # A byte in the first record's body.
        my ($first) = segments($dir);
        my (undef, undef, $lost) = unpack 'a4 V2', slurp($first);
        open my $fh, '+<:raw', $first or die "$first: $!";
        seek $fh, 100, 0;
        print {$fh} "\xff\xfe\xfd";
        close $fh;

        $c->start;
        my $again = spooling($kind, $c, $dir);
        wait_for(sub { !segments($dir) }, 15, 'an empty spool');
        $again->stop;
        my $received = keys %{ $c->span_ids_fast };
        is $received, keys(%made) - $lost, "all but the $lost spans of the torn record arrive";
        is dropped_spans($again)->{$TORN}, $lost, 'and they are counted';
        $again->finish;
    };
}

done_testing;
