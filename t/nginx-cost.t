# What tracing must not do on a request's path: allocate, or call the kernel, but
# for one eventfd write per sealed chunk. Seen from outside: by a preloaded
# allocator that counts, and by strace.

use strict;
use warnings;
use Test::More;
use IO::Socket::INET;
use POSIX ();
use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::Nginx;

use constant REQUESTS => 600;

my $collector = EdgespanTest::Collector->new;

sub config {
    my ($traced) = @_;
    my $otel = $traced ? 'otel_trace on; otel_service_name cost;' : '';
    return <<"END";
    access_log off;
    keepalive_requests 100000;
    otel_exporter { endpoint @{[$collector->url]}; interval 100ms; }
    $otel
    server {
        listen 127.0.0.1:%%PORT%%;
        location = /return { return 200 "ok\\n"; }
    }
END
}

sub load {
    my ($sock, $count) = @_;
    for (1 .. $count) {
        syswrite $sock, "GET /return HTTP/1.1\r\nHost: cost.example\r\nUser-Agent: cost\r\n"
            . "Accept: */*\r\n\r\n";
        my $answer = '';
        until ($answer =~ /ok\n\z/) {
            sysread($sock, $answer, 4096, length $answer) or die 'the server closed';
        }
    }
}

sub connect_to {
    my ($server) = @_;
    return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $server->port)
        || die "connect: $!";
}

my $library = tmpdir() . '/allocations.so';
my $cc = $ENV{CC} || 'cc';
system($cc, '-shared', '-fPIC', '-O2', '-o', $library, repo_root() . '/t/preload/allocations.c') == 0
    or die 'the counting allocator does not compile';

sub allocations {
    my ($traced) = @_;
    my $file = tmpdir() . '/count';
    open my $fh, '>', $file or die $!;
    print $fh "\0" x 4096;
    close $fh;
    my $server = EdgespanTest::Nginx->new(
        master => 0, http => config($traced),
        env => {LD_PRELOAD => $library, ALLOCATIONS_FILE => $file},
    );
    $server->start;
    my $sock = connect_to($server);
    load($sock, 10);    # the connection's own come before the first request
    my $before = unpack 'Q', slurp($file);
    load($sock, REQUESTS);
    my $after = unpack 'Q', slurp($file);
    close $sock;
    $server->stop('QUIT');
    $server->finish;
    return $after - $before;
}

subtest 'a traced request allocates nothing that an untraced one does not' => sub {
    my ($plain, $traced) = (allocations(0), allocations(1));
    cmp_ok $plain, '>=', REQUESTS, "the counter counts ($plain for " . REQUESTS . ' requests)';
    is $traced, $plain, 'as many allocations with tracing as without';
};

sub calls {
    my ($traced) = @_;
    my $server = EdgespanTest::Nginx->new(master => 0, http => config($traced));
    $server->start;
    my $sock = connect_to($server);
    load($sock, 10);

    my $pid = $server->master_pid;
    my $out = tmpdir() . '/strace';
    my $strace = fork // die $!;
    if ($strace == 0) {
        open STDERR, '>', "$out.err";
        exec 'strace', '-o', $out, '-p', $pid or POSIX::_exit(127);
    }
    wait_for(sub { (slurp("$out.err") // '') =~ /attached/ }, 10, 'strace is attached');
    load($sock, REQUESTS);
    kill INT => $strace;
    waitpid $strace, 0;
    close $sock;
    $server->stop('QUIT');
    $server->finish;

    my %count;
    for (split /\n/, slurp($out)) {
        next if /^---|resumed|^\+\+\+/;
        $count{$1}++ if /^(\w+)\(/;
    }
    return \%count;
}

SKIP: {
    skip 'strace is missing: run "make deps"', 1 unless grep { -x "$_/strace" } split /:/, $ENV{PATH};
    # A container may forbid it to look into another process.
    skip 'strace may not trace a process here', 1 if system('strace -o /dev/null true 2>/dev/null') != 0;
    subtest 'a traced request makes no system call of its own' => sub {
        my ($plain, $traced) = (calls(0), calls(1));
        cmp_ok $plain->{recvfrom} // 0, '>=', REQUESTS, 'strace saw the requests';
        my $wakes = delete($traced->{write}) // 0;
        $wakes -= delete($plain->{write}) // 0;
        cmp_ok $wakes, '<=', REQUESTS * 512 / 65536 + 1, "one wake-up per sealed chunk at most ($wakes)";
        # clock_gettime() is no call where the kernel offers the vDSO.
        delete $_->{clock_gettime} for $plain, $traced;
        my %names = (%$plain, %$traced);
        for my $name (sort keys %names) {
            cmp_ok $traced->{$name} // 0, '<=', ($plain->{$name} // 0) + 5, "$name: no more than untraced";
        }
    };
}

$collector->stop;
done_testing;
