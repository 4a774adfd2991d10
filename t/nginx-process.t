# Processes of nginx come and go, are killed and are stopped; every span that the
# access log names arrives all the same.

use strict;
use warnings;

use IO::Socket::INET;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::NginxTraced;
use EdgespanTest::Upstream;

my $CONF = <<'CONF';
keepalive_requests 100000;
server { listen 127.0.0.1:%%PORT1%%; location / { return 200 "ok"; } }
CONF

sub server { return EdgespanTest::NginxTraced->new(workers => 2, http => $CONF,
    @_)->start }

# --- load ---------------------------------------------------------------------

# Requests over connections that are kept alive, until the returned code is run.
sub load {
    my ($port, $clients) = @_;
    my ($stop, $test) = (tmpdir() . '/stop', $$);
    my @pids = map {
        my $pid = fork // die "fork: $!";
        if (!$pid) { eval { load_loop($port, sub { -e $stop || getppid() != $test }) }; POSIX::_exit(0) }
        $pid;
    } 1 .. $clients // 3;
    return sub {
        open my $fh, '>', $stop or die "$stop: $!";
        waitpid $_, 0 for @pids;
    };
}

sub load_loop {
    my ($port, $stop) = @_;
    my ($sock, $got);
    until ($stop->()) {
        $sock //= IO::Socket::INET->new(PeerAddr => '127.0.0.1',
            PeerPort => $port, Timeout => 1);
        if (!$sock) { sleep 0.01; next }
        sleep 0.001;
        next if syswrite($sock, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            && IO::Select->new($sock)->can_read(5)
            && sysread($sock, $got, 4096) && $got !~ /^Connection: close/m;
        undef $sock;
    }
    return;
}

sub requests {
    my ($n, $count) = @_;
    http_get($n->port(1), '/') for 1 .. $count // 1;
    return;
}

# The ids in the access log that did not arrive, and those that came twice.
sub missing {
    my ($n) = @_;
    my $ids = $n->collector->span_ids_fast;
    return [ grep { !$ids->{$_} } $n->logged_ids ];
}

sub doubled {
    my ($n) = @_;
    my $ids = $n->collector->span_ids_fast;
    return [ grep { $ids->{$_} > 1 } keys %$ids ];
}

sub all_arrived {
    my ($n, $timeout) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $missing = [];
    eval { wait_for(sub { !@{ $missing = missing($n) } }, $timeout,
        'all spans') };
    my $count = my @ids = $n->logged_ids;
    is scalar @$missing, 0, "lost of $count spans";
    cmp_ok $count, '>', 0, 'there were some';
    return;
}

# The process whose exporter thread leads: it holds byte 0 of the memfd.
sub leader {
    my ($n) = @_;
    my %worker = map { $_ => 1 } $n->worker_pids;
    for (split /\n/, slurp('/proc/locks')) {
        my (undef, $class, undef, $mode, $pid, undef, $from) = split;
        # Slot 0 is byte 1: who holds both has one range.
        return $pid if $class eq 'POSIX' && $mode eq 'WRITE' && $worker{$pid}
            && $from eq '0';
    }
    return;
}

sub threads { return grep {/^\d+$/} map {m{/(\d+)$}} glob "/proc/$_[0]/task/*" }

sub status_of {
    my ($pid, $tid, $field) = @_;
    return slurp("/proc/$pid/task/$tid/status") =~ /^$field:\s+(\S+)/m ? $1 : '';
}

# --- reload -------------------------------------------------------------------

subtest 'reload under load: nothing lost, nothing twice' => sub {
    my $n = server();
    my $end = load($n->port(1));
    for (1 .. 5) {
        wait_for(sub { $n->logged_ids }, 5, 'requests');
        $n->reload;
        sleep 0.1;
    }
    $end->();
    all_arrived($n, 5);
    is_deeply doubled($n), [], 'none twice';
    wait_for(sub { $n->worker_pids(shutting_down => 1) == 2 }, 5,
        'old workers to end');
    pass 'no old worker is left';
    ok leader($n), 'one of the new ones leads';
    $n->finish;
};

subtest 'three reloads in a row leave no old worker' => sub {
    my $n = server();
    my $master = $n->master_pid;
    for (1 .. 3) { $n->signal('HUP'); sleep 0.05 }
    wait_for(sub { my @all = $n->worker_pids(shutting_down => 1);
        @all == 2 && !grep { proc_title($_) =~ /shutting/ } @all }, 10,
        'two workers');
    is $n->master_pid, $master, 'same master';
    requests($n, 3);
    all_arrived($n, 5);
    $n->finish;
};

subtest 'a reload that fails leaves the old configuration at work' => sub {
    my $n = server(allow => qr/nonsense|mmap\(|munmap\(/);
    requests($n);
    my @workers = $n->worker_pids;
    my @cases = ([ 'a bad configuration', 'otel_nonsense on;', qr/otel_nonsense/ ],
        [ 'an exporter that is refused', 'otel_exporter { nonsense 1; }',
            qr/unknown exporter option/ ],
        [ 'a queue that gets no memory', 'otel_exporter { queue_size 16g;
            endpoint file:///dev/null; }', qr/mmap\(.*failed/ ]);
    pop @cases if $n->sanitized;
    for my $case (@cases) {
        my ($what, $text, $words) = @$case;
        subtest $what => sub {
            my $mark = $n->log_mark;
            system 'prlimit', '--pid', $n->master_pid, '--as=4000000000'
                if $text =~ /queue_size/;
            $n->{http} = $text . $CONF;
            $n->write_config;
            $n->signal('HUP');
            $n->wait_log($words, 5, $mark);
            requests($n, 2);
            all_arrived($n, 5);
            ok proc_alive($n->master_pid), 'the master lives';
            is_deeply [ $n->worker_pids ], \@workers, 'the same workers';
        };
    }
    $n->{allow} = qr/nonsense|unknown exporter option|mmap\(|munmap\(/;
    $n->reload($CONF, drain => 1);
    requests($n, 2);
    all_arrived($n, 5);
    $n->finish;
};

# --- killed processes ---------------------------------------------------------

my $KILLED = qr/exited on signal 9/;

subtest 'kill -9 of workers under load' => sub {
    my $n = server(allow => $KILLED, workers => 3);
    my $end = load($n->port(1));
    for my $who (qw(leader other leader leader other)) {
        my $leader = wait_for(sub { leader($n) }, 5, 'a leader');
        my ($victim) = $who eq 'leader' ? $leader
            : grep { $_ != $leader } $n->worker_pids;
        sleep 0.1;
        kill KILL => $victim;
        wait_for(sub { !proc_alive($victim) && $n->worker_pids == 3 }, 5,
            'a new worker');
    }
    $end->();
    all_arrived($n, 5);
    $n->finish;
};

subtest 'kill -9 of the leader when nothing happens' => sub {
    my $n = server(allow => $KILLED);
    for my $round (1 .. 3) {
        requests($n);
        all_arrived($n, 5);
        my $leader = leader($n);
        kill KILL => $leader;
        wait_for(sub { !proc_alive($leader) }, 2, 'its end');
        ok wait_for(sub { leader($n) }, 2, 'another leader'), 'another leads';
        requests($n);
        all_arrived($n, 1.5);
    }
    is_deeply doubled($n), [], 'what was acknowledged is not sent again';
    $n->finish;
};

subtest 'spans of a killed worker that waited for their batch' => sub {
    my $n = server(allow => $KILLED, exporter => 'interval 1s;');
    requests($n, 50);
    kill KILL => $_ for grep { $_ != leader($n) } $n->worker_pids;
    all_arrived($n, 5);
    requests($n, 50);
    kill KILL => leader($n);
    all_arrived($n, 5);
    $n->finish;
};

# --- stop ---------------------------------------------------------------------

for my $signal (qw(QUIT TERM)) {
    subtest "$signal: all workers at once deliver everything" => sub {
        my $n = server(workers => 4, exporter => 'interval 1h;');
        my $end = load($n->port(1));
        wait_for(sub { (() = $n->logged_ids) > 300 }, 10, 'requests');
        my $took = $n->stop($signal);
        $end->();
        cmp_ok $took, '<', 8, sprintf '%.3f s', $took;
        # TERM may end a worker between its log line and its span.
        all_arrived($n, 2, 0);
        is_deeply doubled($n), [], 'none twice';
        $n->finish;
    };

    for my $budget ('300ms', '1s') {
        subtest "$signal, the collector hangs, shutdown_timeout $budget" => sub {
            my $c = EdgespanTest::Collector->new(mode => 'hang');
            my $n = server(collector => $c,
                exporter => "shutdown_timeout $budget;");
            requests($n, 20);
            my ($seconds) = $budget =~ /(\d+)m/ ? $1 / 1000 : 1;
            my $took = $n->stop($signal);
            cmp_ok $took, '<', $seconds + 5, sprintf '%.3f s', $took;
            like $n->error_log, qr/\[warn\] .*edgespan: 20 spans dropped: not delivered before the shutdown timeout \(20 since the start\)/,
                'what was dropped is said';
            $n->finish;
        };
    }
}

subtest 'TERM with a shutdown_timeout beyond what nginx waits' => sub {
    my $c = EdgespanTest::Collector->new(mode => 'hang');
    my $n = server(collector => $c, exporter => 'shutdown_timeout 5s;');
    requests($n, 20);
    $n->stop('TERM');
    unlike $n->error_log, qr/on signal 9/, 'ends before it is killed';
    like $n->error_log, qr/20 spans dropped: not delivered before/,
        'and says what was dropped';
    $n->finish;
};

# --- threads and other processes ------------------------------------------------

subtest 'threads' => sub {
    # Two of those that we may have, as bits.
    my ($list) = slurp('/proc/self/status') =~ /^Cpus_allowed_list:\s+(\S+)/m;
    my @cpus = map { /(\d+)-(\d+)/ ? $1 .. $2 : $_ } split /,/, $list;
    my $affinity = @cpus < 2 ? ''
        : 'worker_cpu_affinity ' . join(' ', map { '1' . '0' x $_ } @cpus[0, 1]) . ';';
    my $n = server(main => "$affinity worker_priority 5;");
    my $parent = slurp('/proc/' . $n->master_pid . '/status');
    my ($cpus) = $parent =~ /^Cpus_allowed:\s+(\S+)/m;
    my $nice = sub { (split ' ', slurp("/proc/$_[0]/stat") =~ s/.*\) //r)[16] };
    for my $worker ($n->worker_pids) {
        my @tids = wait_for(sub { my @t = threads($worker); @t == 2 && \@t }, 5,
            'the exporter thread')->@*;
        my ($tid) = grep { $_ != $worker } @tids;
        isnt status_of($worker, $worker, 'Cpus_allowed'), $cpus,
            'the worker has a CPU of its own' if $affinity;
        is status_of($worker, $tid, 'Cpus_allowed'), $cpus,
            "the thread has its parent's";
        is $nice->("$worker/task/$worker"), 5, 'worker_priority';
        is $nice->("$worker/task/$tid"), $nice->($n->master_pid), 'not for the thread';
        # Bit n-1 is signal n: all but ILL, BUS, FPE, SEGV (and KILL, STOP).
        my $blocked = hex substr status_of($worker, $tid, 'SigBlk'), -8;
        my @open = grep { !($blocked >> $_ - 1 & 1) } 1 .. 31;
        is "@open", '4 7 8 9 11 19', 'signals that are not blocked';
    }
    $n->finish;
};

subtest 'the cache manager and the cache loader have no exporter' => sub {
    my $n = server(http => "proxy_cache_path %%PREFIX%%/tmp/c keys_zone=c:1m;\n"
        . $CONF);
    my @helpers = wait_for(sub {
        my @h = grep { proc_title($_) =~ /cache/ } children_of($n->master_pid);
        @h && \@h }, 5, 'cache processes')->@*;
    is scalar(threads($_)), 1, proc_title($_) for @helpers;
    requests($n);
    all_arrived($n, 5);
    cmp_ok $n->stop, '<', 8, 'clean end';
    $n->finish;
};

subtest 'master_process off, and its reload' => sub {
    my $n = server(master => 0, workers => 1);
    requests($n, 3);
    all_arrived($n, 5);
    my $mark = $n->log_mark;
    $n->signal('HUP');
    $n->wait_log(qr/reconfiguring/, 5, $mark);
    # The exporter wakes up at least once a second.
    for (1 .. 15) {
        eval { requests($n) };
        sleep 0.1;
    }
    ok $n->running, 'it lives' or return;
    all_arrived($n, 5);
    cmp_ok $n->stop, '<', 8, 'stops';
    $n->finish;
};

# After a reload nginx itself takes no new connections then: only what is under way
# is of interest.
subtest 'master_process off: requests that are under way over a reload' => sub {
    my $u = EdgespanTest::Upstream->new(respond => sub {
        return [ delay => 0.5 ], EdgespanTest::Upstream::http_response() });
    my $n = server(master => 0, workers => 1, vars => { UP => $u->address },
        allow => qr/worker_connections are not enough/,
        http => $CONF =~ s/return 200 "ok"/proxy_pass http:\/\/%%UP%%/r);
    my @sock = map {
        my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
            PeerPort => $n->port(1)) or die $!;
        syswrite $sock, "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        $sock;
    } 1 .. 3;
    $u->wait_requests(3);
    my $mark = $n->log_mark;
    $n->signal('HUP');
    $n->wait_log(qr/reconfiguring/, 5, $mark);
    my $answered = 0;
    for my $sock (@sock) {
        my $got = '';
        sysread $sock, $got, 4096 if IO::Select->new($sock)->can_read(5);
        $answered++ if $got =~ m{^HTTP/1.1 200};
    }
    is $answered, 3, 'all are answered';
    ok $n->running, 'it lives';
    $n->finish;
};

subtest 'binary upgrade' => sub {
    # nginx does not hand on the variables that a sanitizer needs.
    plan skip_all => 'with a sanitizer' if EdgespanTest::NginxTraced->sanitized;
    my $n = server(daemon => 1);
    my $old = $n->master_pid;
    requests($n, 5);
    $n->signal('USR2');
    wait_for(sub { $n->master_pid && $n->master_pid != $old
        && $n->worker_pids == 2 }, 10, 'the new master');
    requests($n, 20);
    kill QUIT => $old;
    wait_for(sub { !proc_alive($old) }, 5, 'the old master to end');
    requests($n, 20);
    all_arrived($n, 5);
    is_deeply doubled($n), [], 'none twice';
    # The harness knows the first master only.
    my $new = $n->master_pid;
    kill QUIT => $new;
    wait_for(sub { !proc_alive($new) }, 5, 'the new master to end');
    $n->finish;
};

done_testing;
