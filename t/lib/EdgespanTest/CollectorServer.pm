package EdgespanTest::CollectorServer;

# The collector's child process: one event loop, many connections. It ends
# when the control socket closes, so it never outlives its test.

use strict;
use warnings;

use IO::Select;
use POSIX ();
use Socket;
use Time::HiRes qw(time);

sub check_mode {
    my ($class, $mode) = @_;
    $mode =~ /^(?: ok | hang | blackhole | reset(?::\d+)? | slow:[\d.]+
        | drip | flood:\d+
        | status:\d{3}(?::[^:=]+=.*)? | partial:\d+ | raw:.* )$/xs
        or die "unknown collector mode '$mode'\n";
    return $mode;
}

sub run {
    my ($class, %opt) = @_;
    my $self = bless { %opt, conns => {}, serial => 0, count => 0 }, $class;
    $class->check_mode($self->{mode});
    $SIG{$_} = 'IGNORE'  for qw(PIPE INT HUP);
    $SIG{TERM} = 'DEFAULT';
    $SIG{CHLD} = 'IGNORE';
    $self->_drop_inherited;
    $self->{listener}->blocking(0);
    $self->{control}->blocking(0);
    # Numbers go on after a restart.
    my ($last) = sort { $b cmp $a } glob "$self->{dir}/[0-9]*.hdr";
    $self->{count} = 0 + $1 if $last && $last =~ /(\d+)\.hdr$/;
    $self->{control_buf} = '';
    1 while $self->_turn;
    return;
}

# Sockets of the test inherited by fork would stay open here after the test
# has closed them. An inherited stdout would keep prove waiting. They are
# replaced, not closed: perl still counts the descriptors as used, and would
# never really close a connection that gets the same number.
sub _drop_inherited {
    my ($self) = @_;
    my %keep = map { $_ => 1 } 0, 1, 2,
        fileno $self->{listener}, fileno $self->{control};
    opendir my $dh, '/proc/self/fd' or return;
    my @fds = grep { /^\d+$/ && !$keep{$_} } readdir $dh;
    closedir $dh;
    open my $null, '+<', '/dev/null' or die "/dev/null: $!\n";
    POSIX::dup2(fileno $null, $_) for 0, 1, grep { -e "/proc/self/fd/$_" } @fds;
    return;
}

sub _turn {
    my ($self) = @_;
    my @conns = $self->{mode} eq 'blackhole' ? () : values %{ $self->{conns} };
    my $select = IO::Select->new(
        $self->{listener}, $self->{control}, map { $_->{sock} } @conns);
    my $now = time;
    my $timeout;
    for my $conn (values %{ $self->{conns} }) {
        next unless defined $conn->{due};
        my $left = $conn->{due} > $now ? $conn->{due} - $now : 0;
        $timeout = $left if !defined $timeout || $left < $timeout;
    }
    my %ready = map { fileno($_) => 1 } $select->can_read($timeout);

    # Control first: a mode change holds for everything read after it.
    if ($ready{ fileno $self->{control} }) {
        $self->_control or return 0;
    }
    if ($ready{ fileno $self->{listener} }) {
        while (my $sock = $self->{listener}->accept) {
            $sock->blocking(0);
            $self->{conns}{ fileno $sock } =
                { sock => $sock, in => '', n => ++$self->{serial} };
        }
    }
    for my $conn (@conns) {
        last if $self->{mode} eq 'blackhole';
        $self->_read($conn) if $ready{ fileno $conn->{sock} };
    }
    $now = time;
    for my $conn (values %{ $self->{conns} }) {
        next unless defined $conn->{due} && $conn->{due} <= $now;
        $self->_answer($conn, $conn->{success});
        $self->_requests($conn);
    }
    return 1;
}

sub _control {
    my ($self) = @_;
    my $n = sysread $self->{control}, $self->{control_buf}, 4096,
        length $self->{control_buf};
    return 0 if defined $n ? $n == 0 : !($!{EAGAIN} || $!{EINTR});
    while ($self->{control_buf} =~ s/^([0-9a-f]*)\n//) {
        $self->{mode} = pack 'H*', $1;
        syswrite $self->{control}, "ok\n";
    }
    return 1;
}

sub _close {
    my ($self, $conn) = @_;
    return unless $conn->{sock};
    delete $self->{conns}{ fileno $conn->{sock} };
    close delete $conn->{sock};
    delete $conn->{due};
    return;
}

sub _read {
    my ($self, $conn) = @_;
    my $n = sysread $conn->{sock}, $conn->{in}, 262144, length $conn->{in};
    if (!defined $n) {
        $self->_close($conn) unless $!{EAGAIN} || $!{EINTR};
        return;
    }
    return $self->_close($conn) if $n == 0;
    $self->_requests($conn);
    return;
}

# Handles every complete request in the input; a connection whose answer is
# still due, or never comes, keeps its further input unread.
sub _requests {
    my ($self, $conn) = @_;
    while ($conn->{sock} && !$conn->{waiting}) {
        my $done = eval { $self->_parse($conn) };
        if ($@) {
            open my $fh, '>>', "$self->{dir}/errors";
            print {$fh} $@;
            close $fh;
            syswrite $conn->{sock},
                "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
            return $self->_close($conn);
        }
        return unless $done;
        $self->_dispatch($conn);
    }
    return;
}

# True once a whole request is there; its parts stay in $conn.
sub _parse {
    my ($self, $conn) = @_;
    if (!defined $conn->{head}) {
        $conn->{in} =~ s/\A(?:\r\n)+//;
        my $end = index $conn->{in}, "\r\n\r\n";
        if ($end < 0) {
            die "request head too long\n" if length $conn->{in} > 65536;
            return 0;
        }
        my $head = substr $conn->{in}, 0, $end + 4, '';
        $head =~ s{\A([A-Z]+ \S+ HTTP/1\.[01])\r\n}{}
            or die "bad request line: $head";
        @$conn{qw(head line body)} = ($head, $1, '');
        my %header = map { lc $_->[0] => $_->[1] }
            map { [ split /:[ \t]*/, $_, 2 ] } split /\r\n/, $head;
        $conn->{chunked} = lc($header{'transfer-encoding'} // '') eq 'chunked';
        my $length = $header{'content-length'} // 0;
        $length =~ /^\d+$/ or die "bad Content-Length $length\n";
        $conn->{left} = $conn->{chunked} ? 0 : $length;
        $conn->{json} = ($header{'content-type'} // '') =~ m{^application/json\b};
        # As Zipkin and Jaeger themselves do it.
        $conn->{success} = $conn->{line} =~ m{/api/(?:v2/spans|traces)\b} ? 202 : 200;
        my $connection = lc($header{connection} // '');
        $conn->{last} = $connection eq 'close'
            || $conn->{line} =~ m{/1\.0$} && $connection ne 'keep-alive';
        if (lc($header{expect} // '') eq '100-continue' && $conn->{in} eq '') {
            syswrite $conn->{sock}, "HTTP/1.1 100 Continue\r\n\r\n";
        }
    }
    if (!$conn->{chunked}) {
        return 0 if length $conn->{in} < $conn->{left};
        $conn->{body} = substr $conn->{in}, 0, $conn->{left}, '';
        return 1;
    }
    while (1) {
        if (!$conn->{left}) {
            return 0 unless $conn->{in} =~ /\A([^\r\n]*)\r\n/;
            my $line = $1;
            $line =~ /^([0-9a-fA-F]+)\s*(?:;|$)/ or die "bad chunk: $line\n";
            my $size = hex $1;
            if (!$size) {
                # The last chunk ends with trailers or an empty line.
                return 0 unless $conn->{in}
                    =~ s/\A[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n//;
                return 1;
            }
            substr $conn->{in}, 0, length($line) + 2, '';
            $conn->{left} = $size + 2;
        }
        return 0 if length $conn->{in} < $conn->{left};
        my $chunk = substr $conn->{in}, 0, $conn->{left}, '';
        $chunk =~ s/\r\n\z// or die "chunk without line end\n";
        $conn->{body} .= $chunk;
        $conn->{left} = 0;
    }
}

sub _dispatch {
    my ($self, $conn) = @_;
    my $mode = $self->{mode};
    $conn->{store} = sprintf '%s/%06d', $self->{dir}, ++$self->{count};
    $conn->{meta} = [ sprintf('%.6f', time), $mode ];
    _write("$conn->{store}.bin", $conn->{body});
    delete $conn->{body};
    $conn->{waiting} = 1;
    my $spared = $mode =~ /^reset:(\d+)/ && $self->{count} % $1;
    if ($mode eq 'ok' || $spared) {
        return $self->_answer($conn, $conn->{success});
    }
    if ($mode =~ /^partial:(\d+)/ && $conn->{json}) {
        return $self->_answer($conn, '200', '',
            qq({"partialSuccess":{"rejectedSpans":"$1","errorMessage":"x"}}));
    }
    if ($mode =~ /^partial:(\d+)/) {
        return $self->_answer($conn, '200', '', partial_success($1));
    }
    if ($mode =~ /^status:(\d+)(?::([^=]+)=(.*))?/s) {
        return $self->_answer($conn, $1, defined $2 ? "$2: $3\r\n" : '');
    }
    $self->_store($conn, 'no');
    if ($mode =~ /^slow:(.*)/) {
        $conn->{due} = time + $1;
    }
    elsif ($mode =~ /^(?:drip|flood)/) {
        $self->_trickle($conn, $mode);
    }
    elsif ($mode =~ /^reset/) {
        setsockopt $conn->{sock}, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
        $self->_close($conn);
    }
    elsif ($mode =~ /^raw:(.*)/s) {
        syswrite $conn->{sock}, $1;
        $self->_close($conn);
    }
    return;
}

# Answers that take long are a process of their own, as long as the peer listens:
# a byte each second, or so many bytes as fast as they go.
sub _trickle {
    my ($self, $conn, $mode) = @_;
    my ($size) = $mode =~ /:(\d+)/;
    if (!fork) {
        $conn->{sock}->blocking(1);
        alarm 60;
        my $head = "HTTP/1.1 200 OK\r\nContent-Length: " . ($size // 100) . "\r\n\r\n";
        my @parts = $size ? ($head) : split //, $head;
        for my $part (@parts) {
            defined syswrite $conn->{sock}, $part or POSIX::_exit(0);
            sleep 1 unless $size;
        }
        my $block = 'x' x 65536;
        for (1 .. ($size // 0) / length $block) {
            defined syswrite $conn->{sock}, $block or last;
        }
        POSIX::_exit(0);
    }
    $self->_close($conn);
    return;
}

# Stored as answered before the answer leaves: whoever has seen the answer
# also finds the request acknowledged.
sub _answer {
    my ($self, $conn, $code, $header, $body) = @_;
    $self->_store($conn, $code);
    my $text = {
        200 => 'OK', 202 => 'Accepted', 400 => 'Bad Request', 429 => 'Too Many Requests',
        500 => 'Internal Server Error', 503 => 'Service Unavailable',
    }->{$code} // 'Status';
    $body //= '';
    syswrite $conn->{sock}, join '', "HTTP/1.1 $code $text\r\n",
        'Content-Type: application/', $conn->{json} ? 'json' : 'x-protobuf', "\r\n",
        $header // '',
        $conn->{last} ? "Connection: close\r\n" : '',
        'Content-Length: ', length $body, "\r\n\r\n", $body;
    return $self->_close($conn) if $conn->{last};
    delete @$conn{qw(head waiting due)};
    return;
}

sub _store {
    my ($self, $conn, $answered) = @_;
    my ($time, $mode) = @{ $conn->{meta} };
    $mode =~ s/[\r\n]+/ /g;
    _write("$conn->{store}.hdr", "X-Time: $time\nX-Answered: $answered\n"
        . "X-Conn: $conn->{n}\nX-Mode: $mode\n\n$conn->{line}\r\n$conn->{head}");
    return;
}

# Readers never see half a file.
sub _write {
    my ($file, $bytes) = @_;
    open my $fh, '>:raw', "$file.tmp" or die "$file.tmp: $!\n";
    print {$fh} $bytes;
    close $fh or die "$file.tmp: $!\n";
    rename "$file.tmp", $file or die "$file: $!\n";
    return;
}

# An ExportTraceServiceResponse that rejects $n spans.
sub partial_success {
    my ($n) = @_;
    my $inner = "\x08" . _varint($n) . "\x12\x01x";
    return "\x0a" . _varint(length $inner) . $inner;
}

sub _varint {
    my ($n) = @_;
    my $out = '';
    while ($n > 0x7f) {
        $out .= chr($n & 0x7f | 0x80);
        $n >>= 7;
    }
    return $out . chr $n;
}

1;
