package EdgespanTest::GrpcServer;

# The gRPC collector's child process: HTTP/2 by prior knowledge, on the event
# loop of the other collector. Modes:
#   ok, hang, blackhole, reset, slow:SECONDS, partial:N
#   status:CODE[:MESSAGE[:RETRY_SECONDS]]   as trailers
#   trailers_only[:CODE]                    one block of headers, no message
#   http:STATUS                             an answer that is not gRPC's
#   rst:CODE                                RST_STREAM
#   late_rst:CODE                           RST_STREAM behind trailers of status 8
#   goaway                                  GOAWAY instead of every answer
#   goaway:N                                GOAWAY behind a connection's N-th answer
#   big:BYTES                               a message so large
#   flood:BYTES                             so many bytes of headers

use strict;
use warnings;

use parent 'EdgespanTest::CollectorServer';

use MIME::Base64 qw(encode_base64);
use Protocol::HTTP2::HeaderCompression qw(headers_decode int_encode);
use Socket;
use Time::HiRes qw(time);

my $PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
my ($DATA, $HEADERS, $RST, $SETTINGS, $PING, $GOAWAY, $UPDATE, $CONTINUATION)
    = (0, 1, 3, 4, 6, 7, 8, 9);
my ($END_STREAM, $ACK, $END_HEADERS, $PADDED, $PRIORITY)
    = (0x1, 0x1, 0x4, 0x8, 0x20);
my $WINDOW = 1 << 24;

sub check_mode {
    my ($class, $mode) = @_;
    $mode =~ /^(?: ok | hang | blackhole | reset | slow:[\d.]+ | partial:\d+
        | status:\d+(?::[^:]*(?::[\d.]+)?)? | trailers_only(?::\d+)?
        | http:\d{3} | (?:late_)?rst:\d+ | goaway(?::\d+)? | big:\d+
        | flood:\d+ )$/x or die "unknown mode '$mode' of the gRPC collector\n";
    return $mode;
}

# --- Frames -------------------------------------------------------------

# What the client does not read now is written later: it may never read it.
sub _send {
    my ($self, $conn, $bytes) = @_;
    $conn->{out} .= $bytes;
    return $self->_flush($conn);
}

sub _flush {
    my ($self, $conn) = @_;
    while ($conn->{sock} && length($conn->{out} // '')) {
        my $n = syswrite $conn->{sock}, $conn->{out}, 1 << 18;
        if (!defined $n) {
            return $self->_close($conn) unless $!{EAGAIN} || $!{EINTR};
            last;
        }
        substr $conn->{out}, 0, $n, '';
    }
    return $self->_next_due($conn);
}

# When the event loop is to look after the connection though nothing came.
sub _next_due {
    my ($self, $conn) = @_;
    my ($slow) = @{ $conn->{slow} || [] };
    $conn->{due} = length($conn->{out} // '') ? time + 0.01
        : $slow ? $slow->[0] : undef;
    return;
}

sub _frame {
    my ($type, $flags, $stream, $payload) = @_;
    return substr(pack('N', length $payload), 1)
        . pack('CCN', $type, $flags, $stream) . $payload;
}

# Literals without indexing: no table to keep.
sub _block {
    my @fields = @_;
    my $block = '';
    while (my ($name, $value) = splice @fields, 0, 2) {
        $block .= "\0" . join '', map { int_encode(length $_, 7) . $_ } $name, $value;
    }
    return $block;
}

# A block of headers, in CONTINUATION frames if it is long.
sub _headers {
    my ($stream, $end, @fields) = @_;
    my @parts = unpack '(a16384)*', _block(@fields);
    return join '', map {
        _frame($_ ? $CONTINUATION : $HEADERS, (!$_ && $end ? $END_STREAM : 0)
            | ($_ == $#parts ? $END_HEADERS : 0), $stream, $parts[$_])
    } 0 .. $#parts;
}

sub _message {
    my ($stream, $message) = @_;
    return join '', map { _frame($DATA, 0, $stream, $_) }
        unpack '(a16384)*', pack('CN', 0, length $message) . $message;
}

# Handles every complete frame of the input.
sub _requests {
    my ($self, $conn) = @_;
    if (!$conn->{greeted}) {
        return if length $conn->{in} < length $PREFACE
            && index($PREFACE, $conn->{in}) == 0;
        # Some servers speak first, and then see who it is.
        $self->_send($conn, _frame($SETTINGS, 0, 0, pack 'nNnN',
            3, 100, 4, $WINDOW) . _frame($UPDATE, 0, 0, pack 'N', $WINDOW));
        return $self->_close($conn) if index($conn->{in}, $PREFACE) != 0;
        substr $conn->{in}, 0, length $PREFACE, '';
        $conn->{greeted} = 1;
        $conn->{tables} = EdgespanTest::GrpcServer::Tables->new;
    }
    while ($conn->{sock} && length $conn->{in} >= 9) {
        my ($high, $low, $type, $flags, $stream) = unpack 'CnCCN', $conn->{in};
        my $length = $high << 16 | $low;
        last if length $conn->{in} < 9 + $length;
        my $payload = substr $conn->{in}, 9, $length;
        substr $conn->{in}, 0, 9 + $length, '';
        $self->_on_frame($conn, $type, $flags, $stream & 0x7fffffff, $payload);
    }
    return;
}

sub _on_frame {
    my ($self, $conn, $type, $flags, $id, $payload) = @_;
    my $stream = $conn->{streams}{$id};
    if ($type == $SETTINGS && !($flags & $ACK)) {
        $self->_send($conn, _frame($SETTINGS, $ACK, 0, ''));
    }
    elsif ($type == $PING && !($flags & $ACK)) {
        $self->_send($conn, _frame($PING, $ACK, 0, $payload));
    }
    elsif ($type == $RST) {
        delete $conn->{streams}{$id};
    }
    elsif ($type == $HEADERS || $type == $CONTINUATION) {
        if ($type == $HEADERS) {
            my $padding = $flags & $PADDED ? unpack 'C', substr $payload, 0, 1, '' : 0;
            substr $payload, 0, 5, '' if $flags & $PRIORITY;
            substr $payload, -$padding, $padding, '' if $padding;
            $stream = $conn->{streams}{$id}
                = { id => $id, block => '', body => '', end => $flags & $END_STREAM };
        }
        $stream->{block} .= $payload;
        return unless $flags & $END_HEADERS;
        $stream->{headers} = [ $conn->{tables}->decode($stream->{block}) ];
        $self->_dispatch($conn, $stream) if $stream->{end};
    }
    elsif ($type == $DATA) {
        my $padding = $flags & $PADDED ? unpack 'C', substr $payload, 0, 1, '' : 0;
        substr $payload, -$padding, $padding, '' if $padding;
        $self->_send($conn, _frame($UPDATE, 0, 0, pack 'N', length $payload))
            if length $payload;
        # It may have been reset by either side.
        return unless $stream;
        $stream->{body} .= $payload;
        $self->_dispatch($conn, $stream) if $flags & $END_STREAM;
    }
    return;
}

# --- Answers ------------------------------------------------------------

my @OK = (':status' => 200, 'content-type' => 'application/grpc');

sub _dispatch {
    my ($self, $conn, $stream) = @_;
    my $mode = $self->{mode};
    my $id = $stream->{id};
    $stream->{store} = sprintf '%s/%06d', $self->{dir}, ++$self->{count};
    $stream->{meta} = [ sprintf('%.6f', time), $mode ];
    my %header = my @headers = @{ delete $stream->{headers} };
    $stream->{line} = "$header{':method'} $header{':path'} HTTP/2";
    while (my ($name, $value) = splice @headers, 0, 2) {
        $stream->{head} .= "$name: $value\r\n" unless $name =~ /^:/;
    }
    $stream->{n} = $conn->{n};
    EdgespanTest::CollectorServer::_write("$stream->{store}.bin",
        delete $stream->{body});

    my ($kind, $rest) = split /:/, $mode, 2;
    my $do = $self->can("_mode_$kind");
    $self->$do($conn, $stream, $rest) if $do;
    $self->_store($stream, 'no') unless $stream->{answered};
    return;
}

# Stored as answered before the answer leaves, as in the other collector.
sub _reply {
    my ($self, $conn, $stream, $answered, $bytes) = @_;
    $stream->{answered} = 1;
    $self->_store($stream, $answered);
    delete $conn->{streams}{ $stream->{id} };
    return $self->_send($conn, $bytes);
}

sub _ok {
    my ($self, $conn, $stream, $message) = @_;
    my $id = $stream->{id};
    return $self->_reply($conn, $stream, 200, _headers($id, 0, @OK)
        . _message($id, $message // '') . _headers($id, 1, 'grpc-status' => 0));
}

sub _mode_ok { my ($self, @at) = @_; return $self->_ok(@at[0, 1]) }

sub _mode_partial {
    my ($self, $conn, $stream, $n) = @_;
    return $self->_ok($conn, $stream,
        EdgespanTest::CollectorServer::partial_success($n));
}

sub _mode_big {
    my ($self, $conn, $stream, $bytes) = @_;
    return $self->_ok($conn, $stream, "\0" x $bytes);
}

sub _mode_slow {
    my ($self, $conn, $stream, $seconds) = @_;
    push @{ $conn->{slow} }, [ time + $seconds, $stream ];
    return $self->_next_due($conn);
}

# Called when something is due on a connection.
sub _answer {
    my ($self, $conn) = @_;
    my $slow = $conn->{slow} || [];
    while ($conn->{sock} && @$slow && $slow->[0][0] <= time) {
        my $stream = (shift @$slow)->[1];
        $self->_ok($conn, $stream) if $conn->{streams}{ $stream->{id} };
    }
    return $self->_flush($conn);
}

sub _varint_field {
    my ($field, $n) = @_;
    return chr($field << 3) . EdgespanTest::CollectorServer::_varint($n);
}

sub _bytes_field {
    my ($field, $bytes) = @_;
    return chr($field << 3 | 2)
        . EdgespanTest::CollectorServer::_varint(length $bytes) . $bytes;
}

# A google.rpc.Status with a RetryInfo, behind another detail.
sub retry_info {
    my ($code, $seconds) = @_;
    my $delay = _varint_field(1, int $seconds)
        . _varint_field(2, int(1e9 * ($seconds - int $seconds)));
    my $status = _varint_field(1, $code) . _bytes_field(3,
        _bytes_field(1, 'type.googleapis.com/google.rpc.DebugInfo'))
        . _bytes_field(3,
            _bytes_field(1, 'type.googleapis.com/google.rpc.RetryInfo')
            . _bytes_field(2, _bytes_field(1, $delay)));
    return encode_base64($status, '') =~ s/=+\z//r;
}

sub _mode_status {
    my ($self, $conn, $stream, $rest) = @_;
    my ($code, $message, $seconds) = split /:/, $rest;
    my $id = $stream->{id};
    return $self->_reply($conn, $stream, "grpc-$code", _headers($id, 0, @OK)
        . _headers($id, 1, 'grpc-status' => $code,
            defined $message && $message ne '' ? ('grpc-message' => $message) : (),
            defined $seconds
                ? ('grpc-status-details-bin' => retry_info($code, $seconds)) : ()));
}

sub _mode_trailers_only {
    my ($self, $conn, $stream, $code) = @_;
    $code //= 0;
    return $self->_reply($conn, $stream, $code ? "grpc-$code" : 200,
        _headers($stream->{id}, 1, @OK, 'grpc-status' => $code));
}

sub _mode_http {
    my ($self, $conn, $stream, $status) = @_;
    return $self->_reply($conn, $stream, "http-$status", _headers($stream->{id}, 0,
        ':status' => $status, 'content-type' => 'text/html')
        . _frame($DATA, $END_STREAM, $stream->{id}, '<html>no</html>'));
}

sub _mode_flood {
    my ($self, $conn, $stream, $bytes) = @_;
    return $self->_reply($conn, $stream, 'flood', _headers($stream->{id}, 1, @OK,
        'grpc-status' => 0, map { ("x-$_" => 'x' x 4000) } 1 .. $bytes / 4000));
}

sub _mode_rst {
    my ($self, $conn, $stream, $code) = @_;
    return $self->_reply($conn, $stream, "rst-$code",
        _frame($RST, 0, $stream->{id}, pack 'N', $code));
}

sub _mode_late_rst {
    my ($self, $conn, $stream, $code) = @_;
    return $self->_reply($conn, $stream, 'grpc-8',
        _headers($stream->{id}, 1, @OK, 'grpc-status' => 8)
        . _frame($RST, 0, $stream->{id}, pack 'N', $code));
}

sub _mode_reset {
    my ($self, $conn) = @_;
    setsockopt $conn->{sock}, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
    return $self->_close($conn);
}

sub _mode_goaway {
    my ($self, $conn, $stream, $answers) = @_;
    my $last = 0;
    if (defined $answers) {
        return if $conn->{gone};
        $self->_ok($conn, $stream);
        $last = $stream->{id};
        return if ++$conn->{answers} < $answers;
        $conn->{gone} = 1;
    }
    $self->_send($conn, _frame($GOAWAY, 0, 0, pack 'NN', $last, 0));
    # The client closes when it has no more streams.
    return;
}

# What the decoder asks of a connection.
package EdgespanTest::GrpcServer::Tables;

sub new {
    return bless { header_table => [], ht_size => 0, max_ht_size => 4096,
        emitted_headers => [], settings => { 1 => 4096 } }, $_[0];
}
sub decode_context { return $_[0] }
sub error          { die "header block: error $_[1]\n" }
sub stream_error   { die "header block: error $_[2]\n" }

sub decode {
    my ($self, $block) = @_;
    $self->{emitted_headers} = [];
    Protocol::HTTP2::HeaderCompression::headers_decode($self, \$block, 0,
        length $block, 0);
    return @{ $self->{emitted_headers} };
}

1;
