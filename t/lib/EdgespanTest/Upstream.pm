package EdgespanTest::Upstream;

# A scripted upstream that keeps the exact bytes of every request. The server
# part is one event loop in a child process, which ends with its test; requests
# are shared as files NNNNNN.req (bytes) and NNNNNN.conn (connection number).

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX ();
use Scalar::Util qw(weaken);
use Socket;
use Time::HiRes qw(time);

use EdgespanTest;
use EdgespanTest::CollectorServer;

my %LIVE;

# How each protocol says that a request is complete (a true value), and what its
# usual answer is.
my %PROTOCOL = (
    http    => [ \&_http_complete,    \&http_response ],
    fastcgi => [ \&_fastcgi_complete, \&fastcgi_response ],
    scgi    => [ \&_scgi_complete,    sub { "Status: 200 OK\r\n\r\nok\n" } ],
    uwsgi   => [ \&_uwsgi_complete,   sub { "HTTP/1.1 200 OK\r\n\r\nok\n" } ],
    ajp     => [ \&_ajp_complete,     sub { ajp_response() } ],
);

# Options: protocol ('http'), unix (socket path; otherwise 127.0.0.1),
# respond: sub ($bytes, $number) giving the steps of the answer, each of which
#   is text to send, [delay => seconds], 'close', 'reset' or 'hang'. Without
#   'close' and 'hang' the connection waits for the next request (http, ajp) or is
#   closed.
sub new {
    my ($class, %opt) = @_;
    my $self = bless { protocol => 'http', %opt, dir => tmpdir(),
        owner => $$ }, $class;
    $self->{respond} //= $PROTOCOL{ $self->{protocol} }[1];
    my $listener;
    if ($self->{unix}) {
        $listener = IO::Socket::UNIX->new(Local => $self->{unix}, Listen => 64)
            or die "listen on $self->{unix}: $!\n";
        chmod 0777, $self->{unix};
    }
    else {
        $listener = wait_for(sub {
            $self->{port} = free_port();
            IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'tcp',
                LocalPort => $self->{port}, Listen => 64, ReuseAddr => 1);
        }, 5, 'a free port for the upstream');
    }
    socketpair(my $ours, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC)
        or die "socketpair: $!\n";
    my $pid = fork // die "fork: $!\n";
    if (!$pid) {
        eval { $self->_run($listener, $theirs); 1 }
            or print STDERR "# upstream failed: $@";
        POSIX::_exit($@ ? 1 : 0);
    }
    @$self{qw(pid control)} = ($pid, $ours);
    weaken($LIVE{$self} = $self);
    return $self;
}

sub port { return $_[0]{port} }

# As a proxy_pass or upstream{} server has it.
sub address {
    my ($self) = @_;
    return $self->{unix} ? "unix:$self->{unix}" : "127.0.0.1:$self->{port}";
}

sub stop {
    my ($self) = @_;
    my $pid = delete $self->{pid} or return;
    close delete $self->{control};
    kill KILL => $pid;
    waitpid $pid, 0;
    return;
}

# The bytes of each request, in order of completion.
sub requests {
    my ($self) = @_;
    my @all;
    while (defined(my $bytes = slurp(sprintf '%s/%06d.req', $self->{dir},
        @all + 1))) { push @all, $bytes }
    return @all;
}

sub connections {
    my ($self) = @_;
    return map { 0 + slurp("$self->{dir}/$_.conn") }
        map { sprintf '%06d', $_ } 1 .. $self->requests;
}

sub wait_requests {
    my ($self, $n, $timeout) = @_;
    wait_for(sub { $self->requests >= $n }, $timeout // 5,
        "$n requests at the upstream");
    return $self->requests;
}

# --- Requests as the test sees them --------------------------------------

# Values of a header of an HTTP request's bytes, whatever the case.
sub header_values {
    my ($bytes, $name) = @_;
    my ($head) = split /\r\n\r\n/, $bytes, 2;
    return $head =~ /^\Q$name\E:[ \t]*(.*?)\r?$/mig;
}

# CGI-like parameters of a FastCGI, SCGI or uwsgi request, values as lists.
sub params {
    my ($self, $bytes) = @_;
    my (%params, @pairs);
    if ($self->{protocol} eq 'fastcgi') {
        my $text = '';
        while (length $bytes >= 8) {
            my ($type, $length, $padding) = unpack 'x C x2 n C', $bytes;
            $text .= substr $bytes, 8, $length if $type == 4;
            substr $bytes, 0, 8 + $length + $padding, '';
        }
        while ($text ne '') {
            my @length = map {
                my $n = unpack 'C', $text;
                my $size = $n & 0x80 ? 4 : 1;
                $n = unpack('N', $text) & 0x7fffffff if $size == 4;
                substr $text, 0, $size, '';
                $n;
            } 0, 1;
            push @pairs, map { substr $text, 0, $_, '' } @length;
        }
    }
    elsif ($self->{protocol} eq 'scgi') {
        my ($head) = $bytes =~ /^\d+:(.*)\0,/s;
        @pairs = split /\0/, $head, -1;
    }
    else {
        my ($at, $end) = (4, 4 + unpack 'x v', $bytes);
        while ($at < $end) {
            my $value = unpack "x$at v/a", $bytes;
            $at += 2 + length $value;
            push @pairs, $value;
        }
    }
    while (my ($name, $value) = splice @pairs, 0, 2) {
        push @{ $params{$name} }, $value;
    }
    return \%params;
}

# --- Answers --------------------------------------------------------------

sub http_response {
    return "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
}

sub fastcgi_response {
    my $text = "Status: 200 OK\r\n\r\nok\n";
    return pack('C2 n2 C x', 1, 6, 1, length $text, 0) . $text
        . pack('C2 n2 C x N C x3', 1, 3, 1, 8, 0, 0, 0);
}

# A packet of AJP13 to the web server.
sub _ajp_packet { return 'AB' . pack 'n/a*', join '', @_ }

# A header, the body and the end; $reuse: the connection is kept.
sub ajp_response {
    my ($status, $body, $reuse) = @_;
    $body //= "ok\n";
    return _ajp_packet(pack 'C n n/a* x n', 4, $status // 200, 'x', 0)
        . _ajp_packet(pack 'C n/a* x', 3, $body) . _ajp_packet(pack 'C C', 5, $reuse // 1);
}

# --- The child ------------------------------------------------------------

sub _http_complete {
    my ($in) = @_;
    my $end = index $in, "\r\n\r\n";
    if ($end < 0) {
        # HTTP/0.9 has a request line only.
        return $in =~ /\A[A-Z]+ \S+\r\n\z/ ? length $in : 0;
    }
    my ($length) = substr($in, 0, $end) =~ /^Content-Length: *(\d+)/mi;
    if (substr($in, 0, $end) =~ /^Transfer-Encoding: chunked/mi) {
        my $last = index $in, "\r\n0\r\n\r\n", $end + 2;
        return $last < 0 ? 0 : $last + 7;
    }
    my $total = $end + 4 + ($length // 0);
    return length $in >= $total ? $total : 0;
}

sub _fastcgi_complete {
    my ($in) = @_;
    my $at = 0;
    while (length $in >= $at + 8) {
        my ($type, $length, $padding) = unpack "x$at x C x2 n C", $in;
        $at += 8 + $length + $padding;
        return $at if $type == 5 && $length == 0 && length $in >= $at;
    }
    return 0;
}

sub _scgi_complete {
    my ($in) = @_;
    return 0 unless $in =~ /\A(\d+):/;
    my $total = length($1) + 2 + $1;
    return 0 if length $in < $total;
    my ($body) = substr($in, 0, $total) =~ /CONTENT_LENGTH\0(\d+)\0/;
    $total += $body // 0;
    return length $in >= $total ? $total : 0;
}

# Requests without a body: one packet.
sub _ajp_complete {
    my ($in) = @_;
    return 0 if length $in < 4;
    my $total = 4 + unpack 'x2 n', $in;
    return length $in >= $total ? $total : 0;
}

sub _uwsgi_complete {
    my ($in) = @_;
    return 0 if length $in < 4;
    my $total = 4 + unpack 'x v', $in;
    return 0 if length $in < $total;
    my ($body) = substr($in, 0, $total) =~ /CONTENT_LENGTH..(\d+)/s;
    $total += $body // 0;
    return length $in >= $total ? $total : 0;
}

sub _run {
    my ($self, $listener, $control) = @_;
    $SIG{$_} = 'IGNORE'  for qw(PIPE INT HUP);
    $SIG{$_} = 'DEFAULT' for qw(TERM CHLD);
    EdgespanTest::CollectorServer::_drop_inherited(
        { listener => $listener, control => $control });
    $listener->blocking(0);
    my ($complete) = @{ $PROTOCOL{ $self->{protocol} } };
    my (%conns, $serial);
    my $count = 0;
    while (1) {
        my ($now, $timeout) = (time, undef);
        for my $conn (values %conns) {
            $self->_steps($conn, $now);
            delete $conns{ $conn->{fd} } if !$conn->{sock};
            next unless $conn->{sock} && $conn->{due};
            my $left = $conn->{due} > $now ? $conn->{due} - $now : 0;
            $timeout = $left if !defined $timeout || $left < $timeout;
        }
        my @reading = grep { $_->{sock} && !$_->{hangs} } values %conns;
        my %ready = map { fileno($_) => 1 } IO::Select->new($control, $listener,
            map { $_->{sock} } @reading)->can_read($timeout);
        return if $ready{ fileno $control };
        if ($ready{ fileno $listener }) {
            while (my $sock = $listener->accept) {
                $sock->blocking(0);
                $conns{ fileno $sock } = { sock => $sock, in => '',
                    fd => fileno $sock, n => ++$serial, steps => [] };
            }
        }
        for my $conn (grep { $ready{ $_->{fd} } } @reading) {
            my $n = sysread $conn->{sock}, $conn->{in}, 65536,
                length $conn->{in};
            if (!$n) {
                next if !defined $n && ($!{EAGAIN} || $!{EINTR});
                delete $conns{ $conn->{fd} };
                close $conn->{sock};
                next;
            }
            while (my $size = $complete->($conn->{in})) {
                my $bytes = substr $conn->{in}, 0, $size, '';
                my $base = sprintf '%s/%06d', $self->{dir}, ++$count;
                _write("$base.conn", $conn->{n});
                _write("$base.req", $bytes);
                push @{ $conn->{steps} }, $self->{respond}->($bytes, $count);
                push @{ $conn->{steps} }, 'close'
                    if $self->{protocol} !~ /^(?:http|ajp)$/;
            }
        }
    }
}

sub _steps {
    my ($self, $conn, $now) = @_;
    return if $conn->{due} && $conn->{due} > $now;
    delete $conn->{due};
    while (defined(my $step = shift @{ $conn->{steps} })) {
        if (ref $step) {
            $conn->{due} = $now + $step->[1];
            return;
        }
        if ($step eq 'hang') {
            $conn->{hangs} = 1;
            $conn->{steps} = [];
        }
        elsif ($step eq 'close' || $step eq 'reset') {
            setsockopt $conn->{sock}, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0
                if $step eq 'reset';
            close delete $conn->{sock};
            return;
        }
        else {
            $conn->{sock}->blocking(1);
            syswrite $conn->{sock}, $step;
            $conn->{sock}->blocking(0);
        }
    }
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

sub DESTROY {
    my ($self) = @_;
    return unless $self->{owner} == $$;
    local ($@, $!, $?);
    $self->stop;
    delete $LIVE{$self};
}

at_end(2, sub {
    local $?;
    $_ && $_->{owner} == $$ && $_->stop for values %LIVE;
});

1;
