# Very many requests: pipelined, over connections that all processes of a server
# get a share of; and many at a time, each with its own times.
package EdgespanTest::Load;

use strict;
use warnings;

use Exporter 'import';
use IO::Select;
use IO::Socket::INET;
use POSIX ();
use Time::HiRes qw(sleep time);

our @EXPORT = qw(load spread paced many traceparent);

# How many requests go over one connection, in one write.
use constant BATCH => 100;

my $serial = 0;

# A traceparent of its own. Its trace id is random.
sub traceparent {
    my ($flags) = @_;
    return sprintf '00-%08x%08x%08x%08x-%016x-%s', (map { 1 + int rand 0xfffffffe } 1 .. 4), ++$serial,
        $flags;
}

sub _request {
    my ($path, $headers, $last) = @_;
    return "GET $path HTTP/1.1\r\nHost: load\r\n"
        . join('', map {"$_->[0]: $_->[1]\r\n"} @{ref $headers eq 'CODE' ? $headers->() : $headers // []})
        . ($last ? "Connection: close\r\n" : '') . "\r\n";
}

# A process that is told to go, by a reload, leaves what is pipelined behind the
# request that it is at: the rest is asked again.
sub _batch {
    my ($port, $path, $count, $headers) = @_;
    while ($count > 0) {
        my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Proto => 'tcp')
            or die "connect to 127.0.0.1:$port: $!\n";
        # Written in one go, it is smaller than the server's buffer.
        syswrite $sock, join '', map { _request($path, $headers, $_ == $count) } 1 .. $count;
        my $answers = '';
        1 while sysread $sock, $answers, 65536, length $answers;
        my $answered = () = $answers =~ /^HTTP\/1\.1 [2-5]\d\d /mg;
        die "no answer to $count requests\n" if !$answered;
        $count -= $answered;
    }
    return;
}

# Runs $code->(i) in $n processes at once, and $meanwhile in this one.
sub _together {
    my ($n, $code, $meanwhile) = @_;
    my @pids;
    for my $i (0 .. $n - 1) {
        my $pid = fork // die "fork: $!\n";
        if (!$pid) {
            srand;
            eval { $code->($i); 1 } or print STDERR "# load failed: $@";
            POSIX::_exit($@ ? 1 : 0);
        }
        push @pids, $pid;
    }
    $meanwhile->() if $meanwhile;
    my $failed = grep { waitpid $_, 0; $? } @pids;
    die "$failed of $n load generators failed\n" if $failed;
    return;
}

# $count requests as fast as they are answered. Options: headers, [[name, value]..]
# or code that gives such a list for each request; clients (2).
sub load {
    my ($port, $path, $count, %opt) = @_;
    my $clients = $opt{clients} // 2;
    $clients = 1 if $count <= BATCH;
    _together($clients, sub {
        my ($i) = @_;
        my $left = int(($count + $i) / $clients);
        while ($left > 0) {
            my $n = $left < BATCH ? $left : BATCH;
            _batch($port, $path, $n, $opt{headers});
            $left -= $n;
        }
    });
    return;
}

# As fast as they are answered, for some seconds. Returns how long it was.
sub spread {
    my ($port, $path, $seconds, %opt) = @_;
    my $from = time;
    _together($opt{clients} // 4, sub {
        _batch($port, $path, 50, $opt{headers}) while time < $from + $seconds;
    });
    return time - $from;
}

# So many requests a second: [rate, seconds] one after the other, of each of some
# ports; and what is to be done meanwhile.
sub paced {
    my ($ports, $path, $phases, $meanwhile) = @_;
    _together(scalar @$ports, sub {
        my ($i) = @_;
        my $due = time;
        for (@$phases) {
            my ($rate, $seconds) = @$_;
            # Fifty connections a second at most.
            my $batch = $rate > 50 ? $rate / 50 : 1;
            for (1 .. $rate * $seconds / $batch) {
                my $left = $due - time;
                sleep $left if $left > 0;
                _batch($ports->[$i], $path, $batch);
                $due += $batch / $rate;
            }
        }
    }, $meanwhile);
    return;
}

# Many requests, $at_once of them at a time, each {path => ..., abort => seconds}.
# Enters what happened: status (0: none), first (seconds to the first byte of the
# answer), took.
sub many {
    my ($port, $at_once, @requests) = @_;
    my @waiting = @requests;
    my %open;
    while (@waiting || %open) {
        while (@waiting && keys %open < $at_once) {
            my $request = shift @waiting;
            my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port,
                Proto => 'tcp') or die "connect to 127.0.0.1:$port: $!\n";
            @$request{qw(sock from text)} = ($sock, time, '');
            syswrite $sock, _request($request->{path}, $request->{headers}, 1);
            $open{$sock} = $request;
        }
        my @ready = IO::Select->new(map { $_->{sock} } values %open)->can_read(0.02);
        my $now = time;
        for my $request (map { $open{$_} } @ready) {
            my $n = sysread $request->{sock}, $request->{text}, 65536, length $request->{text};
            $request->{first} //= $now - $request->{from} if $n;
            _close(\%open, $request, $now) unless $n;
        }
        for my $request (grep { $_->{abort} && $now > $_->{from} + $_->{abort} } values %open) {
            _close(\%open, $request, $now);
        }
    }
    return;
}

sub _close {
    my ($open, $request, $now) = @_;
    delete $open->{$request->{sock}};
    close delete $request->{sock};
    $request->{took} = $now - $request->{from};
    ($request->{status}) = $request->{text} =~ /^HTTP\/1\.1 (\d+)/;
    $request->{status} //= 0;
    return;
}

1;
