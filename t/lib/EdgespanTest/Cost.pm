# What a server does while it serves some requests, seen from outside: how often
# its first thread allocates (a preloaded allocator counts) and which system calls
# it makes (strace).
package EdgespanTest::Cost;

use strict;
use warnings;
use Exporter 'import';
use IO::Socket::INET;
use POSIX ();
use EdgespanTest;

our @EXPORT = qw(cost_env cost_load cost_allocations cost_calls cost_can_strace);

my ($library, $file);

# The environment for a server whose allocations are to be counted.
sub cost_env {
    $library //= do {
        my $so = tmpdir() . '/allocations.so';
        system($ENV{CC} || 'cc', '-shared', '-fPIC', '-O2', '-o', $so,
            repo_root() . '/t/preload/allocations.c') == 0
            or die 'the counting allocator does not compile';
        $so;
    };
    $file = tmpdir() . '/allocations';
    open my $fh, '>', $file or die "$file: $!";
    print $fh "\0" x 4096;
    close $fh;
    chmod 0666, $file;
    return {LD_PRELOAD => $library, ALLOCATIONS_FILE => $file};
}

# Requests one after the other on a connection that stays open.
sub cost_load {
    my ($sock, $path, $count) = @_;
    for (1 .. $count) {
        syswrite $sock, "GET $path HTTP/1.1\r\nHost: cost.example\r\nUser-Agent: cost\r\n"
            . "Accept: */*\r\n\r\n";
        my $answer = '';
        until ($answer =~ /\r\n\r\nok\n\z/) {
            sysread($sock, $answer, 4096, length $answer) or die "the server closed: $answer";
        }
    }
}

sub connection {
    my ($server) = @_;
    return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $server->port)
        || die "connect: $!";
}

# Allocations over `count` requests to a server that was started with cost_env().
sub cost_allocations {
    my ($server, $path, $count) = @_;
    my $sock = connection($server);
    cost_load($sock, $path, 10);    # the connection's own come before the first request
    my $before = unpack 'Q', slurp($file);
    $before > 0 or die 'the allocations of the start were not counted';
    cost_load($sock, $path, $count);
    return unpack('Q', slurp($file)) - $before;
}

# A container may forbid it to look into another process.
sub cost_can_strace {
    return system('strace -o /dev/null true 2>/dev/null') == 0;
}

# name => number of the system calls of the first thread of `pid` over `count`
# requests. A client that is late costs a read in vain and a poll: neither counts.
sub cost_calls {
    my ($server, $pid, $path, $count) = @_;
    my $sock = connection($server);
    cost_load($sock, $path, 10);

    my $out = tmpdir() . "/strace-$pid";
    my $strace = fork // die "fork: $!";
    if ($strace == 0) {
        open STDERR, '>', "$out.err";
        exec 'strace', '-o', $out, '-p', $pid or POSIX::_exit(127);
    }
    wait_for(sub { (slurp("$out.err") // '') =~ /attached/ }, 10, 'strace to be attached');
    cost_load($sock, $path, $count);
    kill INT => $strace;
    waitpid $strace, 0;

    my ($late, %count) = 0;
    for (split /\n/, slurp($out)) {
        if (/^read\(.* = -1 EAGAIN /) { $late++ }
        elsif (/^(\w+)\(/)           { $count{$1}++ }
    }
    $count{poll} -= $late if $late;
    delete $count{clock_gettime};    # is no call where the kernel offers the vDSO
    return \%count;
}

1;
