# The little of HTTP/2 that curl does not do: frames as a test wants them, many
# streams of one connection.
package EdgespanTest::Http2;

use strict;
use warnings;

use Exporter 'import';
use IO::Select;
use IO::Socket::INET;

our @EXPORT = qw(frame fields h2_connect h2_request h2_answers);

my %FRAME = (DATA => 0, HEADERS => 1, RST_STREAM => 3, SETTINGS => 4,
    WINDOW_UPDATE => 8, CONTINUATION => 9);

my $END_STREAM = 1;

sub frame {
    my ($type, $flags, $stream, $payload) = @_;
    return substr(pack('N', length $payload), 1)
        . pack('C C N', $FRAME{$type}, $flags, $stream) . $payload;
}

# Literal fields without indexing, short enough for a length of one byte.
sub fields {
    my @pairs = @_;
    my $out = '';
    while (my ($name, $value) = splice @pairs, 0, 2) {
        $out .= pack 'x C/a C/a', $name, $value;
    }
    return $out;
}

sub h2_connect {
    my ($port) = @_;
    my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $port) or die "connect: $!";
    syswrite $sock, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        . frame(SETTINGS => 0, 0, '');
    return $sock;
}

sub h2_request {
    my ($sock, $stream, @fields) = @_;
    syswrite $sock, frame(HEADERS => 5, $stream, fields(@fields));
    return;
}

# How many streams ended, of $count; less if the connection ended before, or if
# nothing came for a minute.
sub h2_answers {
    my ($sock, $count) = @_;
    my $select = IO::Select->new($sock);
    my ($bytes, $ended) = ('', 0);
    while ($ended < $count) {
        last unless $select->can_read(60)
            && sysread $sock, $bytes, 65536, length $bytes;
        while (length $bytes >= 9) {
            my ($high, $low, $type, $flags) = unpack 'C n C C', $bytes;
            my $size = 9 + ($high << 16 | $low);
            last if length $bytes < $size;
            $ended++ if $flags & $END_STREAM
                && ($type == $FRAME{DATA} || $type == $FRAME{HEADERS});
            substr $bytes, 0, $size, '';
        }
    }
    return $ended;
}

1;
