package EdgespanTest::ScenarioClient;

# Sends the requests of a scenario, and says from which port: a SERVER span has it
# as network.peer.port, so that nobody needs to wait for one request's spans before
# the next.

use strict;
use warnings;

use File::Temp ();
use IO::Select;
use IO::Socket::IP;
use Time::HiRes qw(time);

use EdgespanTest;

use constant PATIENCE => 30;

sub _connect {
    my ($host, $port) = @_;
    for (1 .. 20) {
        my $sock = IO::Socket::IP->new(PeerHost => $host, PeerPort => $port,
            LocalHost => $host, LocalPort => free_port(), Type => Socket::SOCK_STREAM());
        return $sock if $sock;
        die "connect to $host:$port: $!\n" unless $!{EADDRINUSE} || $!{EADDRNOTAVAIL};
    }
    die "no port to connect from\n";
}

sub _bytes {
    my ($request, $how, $last) = @_;
    my ($first, @lines) = ($request->{head}, @{ $request->{lines} });
    $first .= 'x' x ($how->{target} - length $1) if $how->{target} && $first =~ /^\S+ (\S+)/;
    return join '', map {"$_\r\n"} $first, @lines, $how->{endless} ? () : '' if $how->{raw};
    $first .= ' HTTP/1.1' unless $first =~ m{ HTTP/\d};
    my $body = $how->{body} // '';
    unshift @lines, map {"X-Filler-$_: $_"} 1 .. $how->{others} // 0;
    my $given = join "\n", '', @lines;
    unshift @lines, 'Host: gw.example' unless $given =~ /\nHost:/i;
    push @lines, 'User-Agent: scenario/1.0' unless $given =~ /\nUser-Agent:/i;
    push @lines, 'Content-Length: ' . length $body if defined $how->{body} && $given !~ /\nContent-Length:/i;
    push @lines, 'Connection: close' if $last && $given !~ /\nConnection:/i;
    return join('', map {"$_\r\n"} $first, @lines, '') . $body;
}

# What is in parentheses below a request.
sub _how {
    my ($request) = @_;
    my %how;
    for (@{ $request->{how} }) {
        if    (/^raw$/)                   { $how{raw} = 1 }
        elsif (/^body: (.*)$/)            { $how{body} = $1 }
        elsif (/^body of (\d+) bytes$/)   { $how{body} = 'x' x $1 }
        elsif (/^(\d+) other headers$/)   { $how{others} = $1 }
        elsif (/^a message$/)             { $how{body} = "\0\0\0\0\0" }
        elsif (/^a target of (\d+) bytes$/) { $how{target} = $1 }
        elsif (/^does not end$/)          { $how{endless} = 1 }
        elsif (/^pipelined$/)             { $how{pipelined} = 1 }
        elsif (/^over HTTP\/2$/)          { $how{http2} = 1 }
        elsif (/^over TLS$/)              { $how{tls} = 1 }
        elsif (/^over IPv6$/)             { $how{ipv6} = 1 }
        elsif (/^to port (\d)$/)          { $how{port} = $1 }
        elsif (/^leaves when (\w+) has it$/) { $how{leaves} = $1 }
        elsif (/^then says: (.*)$/)       { $how{then} = $1 }
        else { die "a request cannot be ($_)\n" }
    }
    return \%how;
}

# Sends $requests one after the other, those that are pipelined together. Returns
# (ports, answers). $port->($n) is the server's n-th port, or that for 'http2' and
# 'ipv6'; $arrived->($name) waits until an upstream has one more request.
sub send_all {
    my ($requests, $port, $arrived) = @_;
    my @todo = map { [ $_, _how($_) ] } @$requests;
    my (@ports, @answers);
    while (my $first = shift @todo) {
        my @group = ($first);
        push @group, shift @todo while @todo && $todo[0][1]{pipelined};
        my ($request, $how) = @$first;
        my ($from, @got) = $how->{http2} || $how->{tls} ? _curl($request, $how, $port)
            : _http1(\@group, $port, $arrived);
        push @ports, $from;
        push @answers, @got;
    }
    return (\@ports, \@answers);
}

sub _http1 {
    my ($group, $port, $arrived) = @_;
    my ($request, $how) = @{ $group->[0] };
    my $sock = $how->{ipv6} ? _connect('::1', $port->('ipv6'))
        : _connect('127.0.0.1', $port->($how->{port} // 1));
    my $from = $sock->sockport;
    my $bytes = join '', map { _bytes(@{ $group->[$_] }, $_ == $#$group) } 0 .. $#$group;
    # An answer may come, and the connection go, before all is sent.
    syswrite $sock, $bytes;
    if ($how->{leaves}) {
        $arrived->($how->{leaves});
        return ($from, parse_response(''));
    }
    my ($text, $until) = ('', time + PATIENCE);
    my $select = IO::Select->new($sock);
    while (time < $until && $select->can_read($until - time)) {
        my $n = sysread $sock, $text, 65536, length $text;
        last unless $n;
        next unless defined $how->{then} && $text =~ /\r\n\r\n/;
        syswrite $sock, delete($how->{then}) . "\r\n\r\n";
    }
    close $sock;
    my @answers;
    for my $i (0 .. $#$group) {
        my ($method) = $group->[$i][0]{head} =~ /^(\S+)/;
        # Of pipelined ones all but the last have to say how long they are.
        my $part = $text;
        if ($i < $#$group && $text =~ /\A(.*?\r\n\r\n)/s) {
            my $head = $1;
            my ($length) = $head =~ /^Content-Length: *(\d+)/mi;
            $part = substr $text, 0, length($head) + ($method eq 'HEAD' ? 0 : $length // 0), '';
        }
        push @answers, parse_response($part, $method);
    }
    return ($from, @answers);
}

sub _curl {
    my ($request, $how, $port) = @_;
    my ($method, $path) = $request->{head} =~ /^(\S+) (\S+)$/;
    # An argument cannot have a NUL.
    my $body = File::Temp->new;
    print {$body} $how->{body} // '';
    close $body;
    # Trailers follow the headers there.
    my $headers = File::Temp->new;
    my ($from, $text);
    for (1 .. 20) {
        $from = free_port();
        open my $out, '-|', qw(curl -s --raw -k --noproxy * --path-as-is -A scenario/1.0),
            $how->{tls} ? '--http1.1' : '--http2-prior-knowledge',
            '--max-time', PATIENCE, '-D', $headers->filename, '--local-port', $from, '-X', $method,
            defined $how->{body} ? ('--data-binary', '@' . $body->filename) : (),
            map({ ('-H', $_) } 'Host: gw.example', @{ $request->{lines} }),
            $how->{tls} ? 'https://127.0.0.1:' . $port->('tls') . $path : 'http://127.0.0.1:' . $port->('http2') . $path
            or die "curl: $!\n";
        $text = do { local $/; <$out> } // '';
        close $out;
        # Not from this port: somebody else has taken it.
        last unless $? >> 8 == 45 || $? >> 8 == 7;
    }
    my $head = join '', map {"$_\r\n"} slurp($headers->filename) =~ s{\AHTTP/2}{HTTP/1.1}r =~ /[^\r\n]+/g;
    return ($from, parse_response("$head\r\n$text", $method));
}

1;
