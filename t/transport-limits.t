# Answers that are too long, too slow or never end cost neither memory nor a stop.

use strict;
use warnings;

use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(sleep time);

use EdgespanTest;
use EdgespanTest::Edge;

# A server that reads a request's head and then writes what $answer says.
sub peer {
    my ($answer) = @_;
    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 50)
        or die "listen: $!";
    my $file = tmpdir() . '/written';
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        # prove waits for whoever holds its pipe.
        open STDOUT, '>', '/dev/null' or die $!;
        open STDERR, '>', '/dev/null' or die $!;
        $SIG{CHLD} = 'IGNORE';
        while (1) {
            my $sock = $listener->accept or next;
            next if fork;
            my $head = '';
            sysread $sock, $head, 4096, length $head or last
                until $head =~ /\r\n\r\n/;
            my $written = 0;
            while (defined(my $part = $answer->($written, $sock))) {
                my $n = syswrite $sock, $part or last;
                $written += $n;
            }
            open my $fh, '>>', $file;
            print {$fh} "$written\n";
            close $fh;
            last;
        }
        exec 'true';
    }
    at_end(0, sub { local $?; kill KILL => $pid; waitpid $pid, 0 });
    return ('http://127.0.0.1:' . $listener->sockport . '/v1/traces', $file);
}

my $OK = "HTTP/1.1 200 OK\r\n";
my $chunk = 'x' x 65536;

my @too_large = (
    [ 'a body of 1 GiB', sub { $_[0] ? $chunk
        : "${OK}Content-Length: 1073741824\r\n\r\n" } ],
    [ 'chunks without end', sub { ($_[0] ? ''
        : "${OK}Transfer-Encoding: chunked\r\n\r\n") . "10000\r\n$chunk\r\n" } ],
    [ 'a body until the end of a connection that has none', sub {
        $_[0] ? $chunk : "$OK\r\n" } ],
    [ 'headers without end', sub { $_[0] ? 'X-Y: ' . 'y' x 1000 . "\r\n" : $OK } ],
    [ 'one header without end', sub { $_[0] ? $chunk : "${OK}X-Y: " } ],
);

for my $kind (qw(nginx httpd)) {
    for my $case (@too_large) {
        my ($name, $answer) = @$case;
        subtest "$kind: $name" => sub {
            my ($url, $file) = peer($answer);
            my $s = edge($kind, [ protocol => 'http/protobuf',
                timeout => '20s' ], endpoint => $url);
            my %before = map { $_ => rss_kb($_) } $s->worker_pids;
            request($s);
            $s->wait_log(qr/exporting to \S+: .*(?:too large|out of memory|larger than allowed)/i, 15);
            for my $pid ($s->worker_pids) {
                cmp_ok rss_kb($pid), '<', $before{$pid} + 8000, 'little memory';
            }
            wait_for(sub { -s $file }, 10, 'the end of the connection');
            # What the kernel's buffers took is not ours.
            cmp_ok((slurp($file) =~ /(\d+)/)[0], '<', 64 << 20, 'it was not read');
            cmp_ok $s->stop, '<', 5, 'the stop is in time';
            is((values %{ dropped_spans($s) })[0], 1, 'counted');
            $s->finish;
        };
    }

    my @slow = (
        [ 'a body', sub { return $OK . "Content-Length: 100\r\n\r\n" unless $_[0];
            sleep 0.1; 'x' } ],
        [ 'headers', sub { sleep 0.1; substr $OK . 'X-Y: ' . 'y' x 1000, $_[0], 1 } ],
        [ 'no answer', sub { sysread $_[1], my $nothing, 1; undef } ],
    );
    for my $case (@slow) {
        my ($name, $answer) = @$case;
        subtest "$kind: $name, byte by byte" => sub {
            my ($url) = peer($answer);
            my $s = edge($kind, [ protocol => 'http/protobuf',
                timeout => '600ms' ], endpoint => $url);
            my $from = time;
            request($s);
            $s->wait_log(qr/it failed and is tried again: .*timed out/, 15);
            cmp_ok time - $from, '>=', 0.6, 'not before its time';
            cmp_ok $s->stop, '<', 5, 'the stop is in time';
            is_deeply dropped_spans($s),
                { 'not delivered before the shutdown timeout' => 1 }, 'counted';
            $s->finish;
        };
    }
}

done_testing;
