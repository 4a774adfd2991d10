# Spans to a file, a FIFO, the server's own stdout and stderr: rotated, full,
# gone, read by nobody. No span is lost, no line broken, no request disturbed.

use strict;
use warnings;

use Fcntl qw(O_NONBLOCK O_RDONLY);
use JSON::PP ();
use POSIX ();
use Test::More;
use Time::HiRes qw(time);

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::Httpd;
use EdgespanTest::Nginx;
use EdgespanTest::NginxTraced;
use EdgespanTest::Otlp;

my $SERVE = <<'END';
otel_trace on;
server { listen 127.0.0.1:%%PORT%%; location / { return 200 "ok"; } }
END

# An nginx that writes its spans to an endpoint.
sub nginx {
    my ($endpoint, %opt) = @_;
    my $more = delete $opt{exporter} // '';
    return EdgespanTest::Nginx->new(%opt, http =>
        "otel_exporter { endpoint $endpoint; interval 20ms; $more }\n$SERVE");
}

sub requests {
    my ($n, $count) = @_;
    my %status;
    $status{ http_get($n->port, '/' . 'x' x 200)->{status} }++ for 1 .. $count;
    is_deeply \%status, { 200 => $count }, "$count requests served";
    return;
}

# Spans of the lines that are OTLP; dies on a broken one.
sub spans_in {
    my ($text) = @_;
    return map { EdgespanTest::Otlp::decode_json_body($_) }
        grep {/resourceSpans/} split /\n/, $text;
}

sub spans { return scalar(my @s = spans_in(slurp($_[0]) // '')) }

sub one_line {
    my ($n, $regex) = @_;
    $n->wait_log($regex, 10);
    is scalar(() = $n->error_log =~ /failed and is tried again/g), 1, 'one line in the log';
    return;
}

subtest 'rotated' => sub {
    my $n = nginx('file://%%PREFIX%%/data/s.jsonl', workers => 2)->start;
    my $file = $n->prefix . '/data/s.jsonl';
    requests($n, 5);
    wait_for(sub { spans($file) == 5 }, 5, 'the file');
    is +(stat $file)[2] & 07777, 0640, 'not for everybody';

    rename $file, "$file.1" or die $!;
    requests($n, 7);
    wait_for(sub { spans($file) == 7 }, 5, 'renamed: a new file');
    is spans("$file.1"), 5, 'the old one is left alone';

    unlink $file or die $!;
    requests($n, 3);
    wait_for(sub { spans($file) == 3 }, 5, 'removed: a new file');

    system('cp', $file, "$file.2") == 0 or die;
    truncate $file, 0 or die $!;
    requests($n, 4);
    wait_for(sub { spans($file) == 4 }, 5, 'truncated: from the beginning');
    unlike slurp($file), qr/\0/, 'without a hole';

    # An empty file in its place, as "create" of logrotate makes it.
    rename $file, "$file.3" or die $!;
    open my $fh, '>', $file or die $!;
    chmod 0666, $file;
    requests($n, 2);
    wait_for(sub { spans($file) == 2 }, 5, 'replaced');
    $n->stop;
    unlike $n->error_log, qr/tried again|dropped/, 'nothing failed';
    $n->finish;
};

subtest 'a file that cannot be written yet' => sub {
    my $n = nginx('file://%%PREFIX%%/later/s.jsonl')->start;
    requests($n, 3);
    one_line($n, qr/exporting to \S+later\S+: it failed and is tried again: No such file/);
    mkdir $n->prefix . '/later' or die $!;
    chmod 0777, $n->prefix . '/later';
    wait_for(sub { spans($n->prefix . '/later/s.jsonl') == 3 }, 10, 'the spans');
    $n->finish;
};

subtest 'what is refused' => sub {
    for my $case (
        [ 'file:///tmp' => qr/endpoint "file:\/\/\/tmp" is a directory/ ],
        [ 'file://host/x' => qr/endpoint "file:\/\/host\/x" is no file/ ]) {
        my ($endpoint, $expect) = @$case;
        my ($ok, $out) = nginx($endpoint)->test;
        ok !$ok, "$endpoint: refused";
        like $out, $expect, 'why';
    }
};

# In a mount namespace of the server's own: nothing of it can be left behind.
SKIP: {
    skip 'mounting takes root', 1 if $> != 0
        || system('unshare -m --propagation private mount -t tmpfs -o size=256k x /mnt'
            . ' >/dev/null 2>&1') != 0;
    subtest 'a full disk' => sub {
        my $c = EdgespanTest::Collector->new;
        my $n = nginx('file://%%PREFIX%%/data/s.jsonl', exporter => 'batch_size 10;');
        $n->{http} = "otel_exporter { endpoint @{[ $c->url ]}; interval 20ms; }\n$n->{http}";
        my $data = $n->prefix . '/data';
        $n->{program} = $n->write_file('nginx.sh', "#!/bin/sh\n"
            . "exec unshare -m --propagation private sh -c 'mount -t tmpfs -o size=256k,mode=777 x"
            . " $data && exec $n->{program} \"\$@\"' sh \"\$@\"\n");
        $n->start;
        my $seen = '/proc/' . $n->master_pid . "/root$data";
        open my $fh, '>', "$seen/filler" or die $!;
        print {$fh} 'x' x 230000;
        close $fh;
        requests($n, 60);
        one_line($n, qr/it failed and is tried again: No space left on device/);
        requests($n, 60);
        is keys %{ $c->span_ids_fast }, 120, 'the other exporter has them all'
            if $c->wait_spans(120, 10);
        my $text = slurp("$seen/s.jsonl");
        like $text, qr/\n\z/, 'no half a line stays';
        cmp_ok scalar(my @some = spans_in($text)), '<', 120, 'and not all have room';

        unlink "$seen/filler" or die $!;
        $n->wait_log(qr/works again/, 10);
        wait_for(sub { spans("$seen/s.jsonl") == 120 }, 10, 'all spans');
        my %once = map { $_->{span_id} => 1 } spans_in(slurp("$seen/s.jsonl"));
        is keys %once, 120, 'all of them, each once';
        $n->stop;
        unlike $n->error_log, qr/dropped/, 'nothing was lost';
        $n->finish;
    };
}

subtest '/dev/full' => sub {
    my $n = nginx('file:///dev/full')->start;
    requests($n, 20);
    one_line($n, qr/it failed and is tried again: No space left on device/);
    cmp_ok $n->stop, '<', 8, 'the stop is in time';
    like $n->error_log, qr/20 spans dropped: not delivered before the shutdown timeout/, 'counted';
    $n->finish;
};

sub reader {
    my ($fifo) = @_;
    sysopen my $fh, $fifo, O_RDONLY | O_NONBLOCK or die "$fifo: $!";
    return $fh;
}

# Reads what is there now.
sub drain {
    my ($fh, $text) = @_;
    1 while sysread $fh, $$text, 65536, length $$text;
    return;
}

# A pipe that is read, then not, and then again.
sub unread {
    my ($n, $fh) = @_;
    my $text = '';
    requests($n, 10);
    wait_for(sub { drain($fh, \$text); spans_in($text =~ s/[^\n]*\z//r) == 10 }, 5, 'spans');
    requests($n, 400); # over 100 KiB of lines
    one_line($n, qr/it failed and is tried again: it is full, and nobody reads it/);
    my $from = time;
    requests($n, 10);
    cmp_ok time - $from, '<', 8, 'requests do not wait';
    wait_for(sub { drain($fh, \$text); spans_in($text =~ s/[^\n]*\z//r) == 420 }, 20, 'all');
    my %once = map { $_->{span_id} => 1 } spans_in($text);
    is keys %once, 420, 'each of them once, every line whole';
    requests($n, 400);
    # Full again: the deadline holds all the same.
    wait_for(sub { my $left = pack 'i', 0; ioctl $fh, 0x541b, $left; unpack('i', $left) > 40000 },
        10, 'a full pipe');
    cmp_ok $n->stop, '<', 8, 'the stop is in time';
    like $n->error_log, qr/spans dropped: not delivered before the shutdown timeout/, 'counted';
    return;
}

subtest 'a FIFO' => sub {
    my $n = nginx('file://%%PREFIX%%/data/fifo', workers => 2);
    my $fifo = $n->prefix . '/data/fifo';
    POSIX::mkfifo($fifo, 0666) or die $!;
    chmod 0666, $fifo;
    $n->start;
    http_get($n->port, '/');
    one_line($n, qr/it failed and is tried again: nobody reads it/);
    my $fh = reader($fifo);
    my $text = '';
    wait_for(sub { drain($fh, \$text); $text =~ /\n/ }, 10, 'the first span');
    close $fh;

    # Its last reader has left.
    http_get($n->port, '/');
    $text = '';
    $fh = reader($fifo);
    wait_for(sub { drain($fh, \$text); $text =~ /\n/ }, 10, 'the next span');
    is scalar(my @s = spans_in($text)), 1, 'a new reader gets it';
    $n->finish;

    $n = nginx("file://$fifo", workers => 2)->start;
    unread($n, $fh);
    $n->finish;
};

# --- The server's own ------------------------------------------------------

# A server whose stdout is that pipe, blocking as a container's.
sub with_stdout {
    my ($s, $fifo) = @_;
    $s->_builtin if $s->kind eq 'httpd'; # asks the program itself
    $s->{program} = $s->write_file('server.sh', "#!/bin/sh\nexec $s->{program} \"\$@\" >$fifo\n");
    return $s;
}

sub fifo_in {
    my ($s) = @_;
    my $fifo = $s->prefix . '/data/out';
    POSIX::mkfifo($fifo, 0600) or die $!;
    return $fifo;
}

subtest 'nginx: stdout' => sub {
    my $n = nginx('stdout', workers => 2)->start;
    requests($n, 5);
    wait_for(sub { spans($n->prefix . '/stderr.log') == 5 }, 5, 'spans on stdout');
    like $n->error_log, qr/endpoint "stdout": spans go to stdout as file/, 'the choice is told';
    $n->reload;
    requests($n, 5);
    wait_for(sub { spans($n->prefix . '/stderr.log') == 10 }, 5, 'after a reload');
    $n->finish;
};

subtest 'nginx: stdout is a pipe' => sub {
    my $n = nginx('stdout', workers => 2);
    my $fifo = fifo_in($n);
    my $fh = reader($fifo);
    with_stdout($n, $fifo)->start;
    unread($n, $fh);
    $n->finish;
};

subtest 'nginx: stdout whose reader has left' => sub {
    my $n = nginx('stdout', workers => 2);
    my $fifo = fifo_in($n);
    my $fh = reader($fifo);
    with_stdout($n, $fifo)->start;
    close $fh;
    my @workers = sort $n->worker_pids;
    requests($n, 5);
    one_line($n, qr/exporting to stdout: it failed and is tried again: nobody reads it/);
    is_deeply [ sort $n->worker_pids ], \@workers, 'no SIGPIPE';
    $n->finish;
};

subtest 'nginx: stderr is the error log' => sub {
    my $n = nginx('stderr')->start;
    requests($n, 3);
    wait_for(sub { spans($n->prefix . '/error.log') == 3 }, 5, 'spans in it');
    $n->finish;
};

subtest 'nginx: a daemon has no stdout' => sub {
    my $n = nginx('stdout', daemon => 1)->start;
    requests($n, 3);
    $n->wait_log(qr/exporting to stdout: a batch was rejected: it is \/dev\/null, as in every server that runs as a daemon/);
    $n->stop;
    like $n->error_log, qr/rejected by the collector \(3 since the start\)/, 'counted';
    $n->finish;
};

subtest 'httpd: stdout, stderr' => sub {
    my $s = EdgespanTest::Httpd->new(http => <<'END')->start;
OtelExporter stdout interval=20ms
OtelExporter stderr interval=20ms
OtelTrace On
END
    http_get($s->port, '/') for 1 .. 5;
    wait_for(sub { spans($s->prefix . '/stderr.log') == 5 }, 5, 'spans on stdout');
    wait_for(sub { spans($s->prefix . '/error.log') == 5 }, 5, 'spans in the error log');
    pass 'both';
    $s->finish;
};

subtest 'httpd: stdout is a pipe' => sub {
    my $s = EdgespanTest::Httpd->new(http => <<'END');
OtelExporter stdout interval=20ms
OtelTrace On
END
    my $fifo = fifo_in($s);
    my $fh = reader($fifo);
    with_stdout($s, $fifo)->start;
    http_get($s->port, '/?' . 'x' x 200) for 1 .. 400;
    $s->wait_log(qr/it failed and is tried again: it is full, and nobody reads it/, 10);
    my $text = '';
    wait_for(sub { drain($fh, \$text); spans_in($text =~ s/[^\n]*\z//r) == 400 }, 20, 'all');
    pass 'every line whole';
    $s->finish;
};

done_testing;
