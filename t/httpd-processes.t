# httpd: tracing in its processes, in each MPM: start, restart, stop, death.

use strict;
use warnings;

use IO::Socket::INET;
use POSIX ();
use Test::More;
use Time::HiRes qw(time);

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::Httpd;
use EdgespanTest::Otlp;

my @MPMS = grep { -e EdgespanTest::Httpd->system_modules . "/mod_mpm_$_.so" }
    qw(event worker prefork);

sub http_text {
    my ($exporter) = @_;
    $exporter .= ' interval=20ms' unless $exporter =~ /\binterval=/;
    return <<"END";
OtelExporter %%COLLECTOR%% $exporter
OtelTrace On
LogFormat "%{OTEL_SPAN_ID}e" span
CustomLog %%PREFIX%%/spans.log span
ScriptAlias /cgi/ %%PREFIX%%/cgi-bin/
<Location /otel-status>
SetHandler otel-status
</Location>
END
}

# Options besides the server's: collector, exporter (more of its options).
sub traced {
    my (%opt) = @_;
    my $c = delete $opt{collector} // EdgespanTest::Collector->new;
    my $s = EdgespanTest::Httpd->new(%opt, http => http_text($opt{exporter} // ''),
        vars => { COLLECTOR => $c->url });
    $s->{collector} = $c;
    return $s;
}

# Span ids of all requests that were logged.
sub logged {
    my ($s) = @_;
    my @ids = (slurp($s->prefix . '/spans.log') // '') =~ /^(\w{16})$/mg;
    return @ids;
}

# Each logged request has arrived.
sub arrived {
    my ($s, $name) = @_;
    my $c = $s->{collector};
    my @want = logged($s);
    my @missing;
    eval { wait_for(sub {
        my $have = $c->span_ids_fast;
        @missing = grep { !$have->{$_} } @want;
        return !@missing;
    }, 30, 'all spans') };
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is @missing, 0, "$name: " . @want . ' requests, all spans arrived';
    return;
}

# And none twice: without a violent death nothing is sent again.
sub complete {
    my ($s, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    arrived($s, $name);
    my $have = $s->{collector}->span_ids_fast;
    my @twice = grep { $have->{$_} > 1 } keys %$have;
    is @twice, 0, 'none twice';
    return;
}

# Clients in processes of their own, until load_end(), which gives how many of
# them had a request that was not answered.
sub load_begin {
    my ($s, $clients) = @_;
    my $port = $s->port;
    my $parent = $$;
    my @pids;
    for (1 .. $clients) {
        my $pid = fork // die "fork: $!\n";
        if (!$pid) {
            my $stop = 0;
            local $SIG{USR1} = sub { $stop = 1 };
            my $bad = 0;
            while (!$stop && !$bad) {
                my $res = eval { http_get($port, '/') };
                $bad = 1 unless $res && $res->{status} == 200;
            }
            POSIX::_exit($bad);
        }
        push @pids, $pid;
    }
    return @pids;
}

sub load_end {
    my (@pids) = @_;
    kill USR1 => @pids;
    return scalar grep { waitpid $_, 0; $? } @pids;
}

# All at once: one by one each that is left would lead until it is its turn, and
# three leaders that die in a row are blamed on what they read.
sub kill_at_once {
    my ($signal, @pids) = @_;
    kill STOP => @pids;
    wait_for(sub {
        !grep { (slurp($_) // '') !~ /\) [TZX] / } map { glob "/proc/$_/task/*/stat" } @pids;
    }, 30, 'all to be stopped');
    kill $signal => @pids;
    kill CONT => @pids;
    return;
}

# Spans that the status counts as dropped.
sub dropped {
    my ($s) = @_;
    my $sum = 0;
    $sum += $_ for http_get($s->port, '/otel-status')->{body} =~ /^spans\.dropped\.\w+ +(\d+)$/mg;
    return $sum;
}

# Each logged request has arrived, or is counted as dropped.
sub accounted {
    my ($s) = @_;
    my ($missing, $dropped);
    eval { wait_for(sub {
        my $have = $s->{collector}->span_ids_fast;
        $missing = grep { !$have->{$_} } logged($s);
        $dropped = dropped($s);
        return $missing <= $dropped;
    }, 30, 'all spans') };
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    cmp_ok $missing, '<=', $dropped,
        logged($s) . " requests: $missing did not arrive, $dropped are counted";
    return;
}

for my $mpm (@MPMS) {
    subtest "$mpm: serves and stops" => sub {
        my $s = traced(mpm => $mpm)->start;
        http_get($s->port, '/') for 1 .. 20;
        my $took = $s->stop;
        cmp_ok $took, '<', 8, sprintf 'stopped in %.2fs', $took;
        complete($s, 'stop');
        $s->finish;
    };

    subtest "$mpm: restarts under load" => sub {
        my $s = traced(mpm => $mpm)->start;
        my @load = load_begin($s, 4);
        $s->reload for 1 .. 3;
        is load_end(@load), 0, 'every request was answered';
        is http_get($s->port, '/')->{status}, 200, 'after graceful restarts';
        $s->reload(undef, hard => 1);
        is http_get($s->port, '/')->{status}, 200, 'after a hard restart';
        $s->stop;
        complete($s, 'three graceful and one hard restart');
        $s->finish;
    };

    subtest "$mpm: hard restarts under load" => sub {
        my $s = traced(mpm => $mpm)->start;
        for (1 .. 3) {
            my @load = load_begin($s, 4);
            my $before = logged($s);
            wait_for(sub { logged($s) > $before + 20 }, 30, 'some requests');
            $s->reload(undef, hard => 1, timeout => 30);
            load_end(@load);
        }
        accounted($s);
        $s->finish;
    };

    subtest "$mpm: a hard restart while a client takes its time" => sub {
        my $s = traced(mpm => $mpm, main => "SendBufferSize 4096\nFlushMaxThreshold 100000000",
            files => { 'html/large' => 'x' x 8_000_000 })->start;
        my $client = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $s->port)
            or die "connect: $!\n";
        syswrite $client, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n";
        sysread $client, my $byte, 1;
        $s->reload(undef, hard => 1, timeout => 60);
        accounted($s);
        $s->finish;
    };

    subtest "$mpm: a graceful stop under load" => sub {
        my $s = traced(mpm => $mpm)->start;
        my @load = load_begin($s, 4);
        wait_for(sub { logged($s) > 50 }, 30, 'some requests');
        my $took = $s->stop('WINCH');
        load_end(@load);
        cmp_ok $took, '<', 10, sprintf 'stopped in %.2fs', $took;
        complete($s, 'graceful stop');
        $s->finish;
    };

    subtest "$mpm: a collector that hangs" => sub {
        for my $mode (qw(hang blackhole)) {
            my $c = EdgespanTest::Collector->new(mode => $mode);
            my $s = traced(mpm => $mpm, collector => $c, exporter => 'shutdown_timeout=500ms')->start;
            http_get($s->port, '/') for 1 .. 20;
            $c->wait_requests(1) if $mode eq 'hang';
            my $took = $s->stop;
            cmp_ok $took, '<', 8, sprintf '%s: stopped in %.2fs', $mode, $took;
            like $s->error_log, qr/edgespan: \d+ spans dropped: /, 'what is lost is told';
            $s->finish;
        }
    };

    subtest "$mpm: a graceful stop, and a restart, with a collector that hangs" => sub {
        my $c = EdgespanTest::Collector->new(mode => 'hang');
        my $s = traced(mpm => $mpm, collector => $c)->start;
        http_get($s->port, '/') for 1 .. 20;
        $c->wait_requests(1);
        my $from = time;
        $s->reload(undef, drain => 1);
        cmp_ok time - $from, '<', 8, 'the old generation leaves';
        http_get($s->port, '/') for 1 .. 20;
        my $took = $s->stop('WINCH');
        cmp_ok $took, '<', 8, sprintf 'stopped in %.2fs', $took;
        $s->finish;
    };

    subtest "$mpm: stopped in the middle of it" => sub {
        for (1 .. 5) {
            my $s = traced(mpm => $mpm)->start;
            my @load = load_begin($s, 4);
            wait_for(sub { logged($s) > 50 }, 30, 'some requests');
            my $took = $s->stop;
            load_end(@load);
            cmp_ok $took, '<', 8, sprintf 'stopped in %.2fs', $took;
            $s->finish;
        }
    };

    subtest "$mpm: children that retire" => sub {
        my $s = traced(mpm => $mpm, exporter => 'interval=1h')->start;
        $s->{main} = 'MaxConnectionsPerChild 5';
        $s->reload(undef, drain => 1);
        my @load = load_begin($s, 4);
        wait_for(sub { logged($s) > 100 }, 60, 'some requests');
        is load_end(@load), 0, 'every request was answered';
        $s->stop;
        complete($s, 'every fifth connection');
        $s->finish;
    };

    for (
        [ KILL => 'Killed' ],
        [ SEGV => 'Segmentation fault' ],
    ) {
        my ($signal, $words) = @$_;
        subtest "$mpm: children that die of $signal" => sub {
            my $s = traced(mpm => $mpm, allow => qr/exit signal $words/)->start;
            for my $round (1 .. 3) {
                http_get($s->port, '/') for 1 .. 10;
                my @old = $s->worker_pids;
                kill_at_once($signal, @old);
                wait_for(sub {
                    my %is = map { $_ => 1 } $s->worker_pids;
                    return keys %is >= $s->{workers} && !grep { $is{$_} } @old;
                }, 30, 'new children');
                is http_get($s->port, '/')->{status}, 200, 'served by new ones';

                # Acknowledged in between: see kill_at_once().
                arrived($s, "all dead, round $round");
            }
            $s->finish;
        };
    }
}

subtest 'a collector that comes late, and goes' => sub {
    my $c = EdgespanTest::Collector->new(start => 0);
    my $s = traced(collector => $c)->start;
    is http_get($s->port, '/')->{status}, 200, 'served without it';
    $c->start;
    complete($s, 'late');
    $c->stop;
    is http_get($s->port, '/')->{status}, 200, 'served without it again';
    $c->start;
    complete($s, 'again');
    $s->finish;
};

# Processor time and switches to others of a process, in ticks and times.
sub spent {
    my ($pid) = @_;
    my @stat = split ' ', slurp("/proc/$pid/stat") =~ s/.*\) //sr;
    my $switches = 0;
    for my $status (glob "/proc/$pid/task/*/status") {
        $switches += $1 if (slurp($status) // '') =~ /^voluntary_ctxt_switches:\s*(\d+)/m;
    }
    return ($stat[11] + $stat[12], $switches);
}

subtest 'a kernel without pidfd_open()' => sub {
    plan skip_all => 'a sanitizer is preloaded, too' if $ENV{LD_PRELOAD};
    my $so = tmpdir() . '/nopidfd.so';
    system($ENV{CC} || 'cc', qw(-shared -fPIC -O2 -o), $so, repo_root() . '/t/preload/nopidfd.c',
        '-ldl') == 0 or die 'the preloaded library does not compile';
    my $s = traced(workers => 4, env => { LD_PRELOAD => $so }, exporter => 'interval=1s',
        allow => qr/exit signal Killed/)->start;
    http_get($s->port, '/');
    arrived($s, 'at first');

    my @pids = $s->worker_pids;
    my %before = map { $_ => [ spent($_) ] } @pids;
    my $begin = time;
    select undef, undef, undef, 2;
    my $waited = time - $begin;
    my ($ticks, $switches) = (0, 0);
    for my $pid (@pids) {
        my @after = spent($pid);
        $ticks    += $after[0] - $before{$pid}[0];
        $switches += $after[1] - $before{$pid}[1];
    }
    cmp_ok $ticks, '<', $waited * POSIX::sysconf(POSIX::_SC_CLK_TCK()) / 10, 'nobody spins';
    cmp_ok $switches, '<', 400 * $waited, 'nor nearly so';
    my ($leader) = http_get($s->port, '/otel-status')->{body} =~ /^leader\.pid +(\d+)$/m;
    kill KILL => $leader;
    wait_for(sub { !grep { $_ == $leader } $s->worker_pids }, 10, 'the death of the leader');
    http_get($s->port, '/');
    arrived($s, 'another one leads');
    $s->finish;
};

subtest 'a restart with another configuration' => sub {
    my ($c, $other) = map { EdgespanTest::Collector->new } 1, 2;
    my $s = traced(collector => $c)->start;
    http_get($s->port, '/');
    $s->{vars}{COLLECTOR} = $other->url;
    $s->reload;
    http_get($s->port, '/');
    $other->wait_spans(1, 30);
    my @spans = $c->wait_spans(1, 30);
    is @spans, 1, 'the first has what came before it';

    $s->reload('');
    http_get($s->port, '/');
    $s->reload(http_text(''));
    http_get($s->port, '/');
    @spans = $other->wait_spans(2, 30);
    is @spans, 2, 'without a directive: untraced';
    $s->finish;
};

subtest 'what a CGI inherits' => sub {
    my $script = "#!/bin/sh\necho 'Content-Type: text/plain'\necho\nls -l /proc/self/fd\n"
        . "echo ENV; env\n";
    for my $mpm (@MPMS) {
        my $s = traced(mpm => $mpm, workers => 1, files => { 'cgi-bin/fd' => $script })->start;
        # With connections to the collector open.
        http_get($s->port, '/');
        $s->{collector}->wait_spans(1, 30);
        my %kind = map { $_ => 1 } map { readlink($_) =~ /^(\/memfd:\w+|anon_inode:\[eventfd\])/ ? $1 : () }
            map { glob "/proc/$_/fd/*" } $s->worker_pids;
        cmp_ok keys %kind, '>=', 2, "$mpm: the server has descriptors to leak";
        my ($fds) = split /^ENV$/m, http_get($s->port, '/cgi/fd')->{body};
        unlike $fds, qr/memfd|eventfd|eventpoll/, 'none of ours is inherited';
        my @sockets = $fds =~ /socket:/g;
        my $bare = EdgespanTest::Httpd->new(mpm => $mpm, module => 0, workers => 1,
            files => { 'cgi-bin/fd' => $script },
            http => 'ScriptAlias /cgi/ %%PREFIX%%/cgi-bin/')->start;
        my ($bare_fds) = split /^ENV$/m, http_get($bare->port, '/cgi/fd')->{body};
        my @bare_sockets = $bare_fds =~ /socket:/g;
        is @sockets, @bare_sockets, 'no more sockets than without us';
        $_->finish for $s, $bare;
    }
};

subtest '256 children and a dead collector' => sub {
    plan skip_all => 'no prefork' unless grep { $_ eq 'prefork' } @MPMS;
    my $c = EdgespanTest::Collector->new(start => 0);
    my $s = traced(mpm => 'prefork', workers => 256, collector => $c, start_timeout => 60,
        sizing => "StartServers 256\nMinSpareServers 250\nMaxSpareServers 256\n"
            . "ServerLimit 256\nMaxRequestWorkers 256")->start;
    wait_for(sub { $s->worker_pids == 256 }, 60, '256 children');
    my @load = load_begin($s, 4);
    wait_for(sub { logged($s) > 2000 }, 30, '2000 requests');
    is load_end(@load), 0, 'every request was answered';
    my $took = $s->stop;
    cmp_ok $took, '<', 8, sprintf 'stopped in %.2fs', $took;
    $s->finish;
};

subtest 'httpd -t' => sub {
    my $s = traced();
    my ($ok, $text) = $s->test;
    ok $ok, 'content' or diag $text;
    my @requests = $s->{collector}->requests;
    is @requests, 0, 'nothing is exported';
};

done_testing;
