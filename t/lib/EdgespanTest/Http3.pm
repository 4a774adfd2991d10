# A connection of HTTP/3, by t/matrix/http3.py, which says what it can do.
package EdgespanTest::Http3;

use strict;
use warnings;

use IO::Select;
use IPC::Open2;
use JSON::PP ();
use Time::HiRes qw(time);

use EdgespanTest;

my %LIVE;

sub _python {
    return $ENV{EDGESPAN_HTTP3_PYTHON} || repo_root() . '/build/matrix/http3/bin/python';
}

# What keeps the machine's from being used, if anything.
sub missing {
    return -x _python() ? undef : 'there is no client of HTTP/3: run "make matrix"';
}

# When it is open, or what else is to become of it.
sub new {
    my ($class, $port, $event) = @_;
    my $self = bless { bytes => '', events => [], owner => $$ }, $class;
    $self->{pid} = open2(@$self{qw(out in)}, _python(), repo_root() . '/t/matrix/http3.py', $port);
    $self->{in}->autoflush(1);
    $LIVE{ $self->{pid} } = $$;
    $self->{port} = $self->await($event // 'open')->{port};
    return $self;
}

# Its own.
sub port { return $_[0]{port} }

sub tell {
    my ($self, $what, %more) = @_;
    print { $self->{in} } JSON::PP::encode_json({ do => $what, %more }), "\n";
    return;
}

# The first event of that name, and of that stream, that has not been asked for.
sub await {
    my ($self, $event, $stream) = @_;
    my $deadline = time + 60;
    my $select = IO::Select->new($self->{out});
    while (1) {
        my $events = $self->{events};
        for my $i (0 .. $#$events) {
            next unless $events->[$i]{event} eq $event;
            next unless !defined $stream || $events->[$i]{stream} == $stream;
            return splice @$events, $i, 1;
        }
        die "no \"$event\" of HTTP/3's stream ", $stream // '-', ' but ',
            JSON::PP->new->canonical->encode($events), "\n"
            unless $select->can_read($deadline - time)
            && sysread $self->{out}, $self->{bytes}, 65536, length $self->{bytes};
        push @$events, map { JSON::PP::decode_json($_) } $1 while $self->{bytes} =~ s/\A(.*)\n//;
    }
}

# These begin a stream and return its number. Options: method (GET), host (localhost),
# headers [[n, v]..], body, end (1).
sub request {
    my ($self, $path, %opt) = @_;
    return $self->_request({ body => $opt{body} // '', end => $opt{end} // 1 },
        [ ':method', $opt{method} // 'GET' ], [ ':scheme', 'https' ],
        [ ':authority', $opt{host} // 'localhost' ], [ ':path', $path ],
        @{ $opt{headers} // [] });
}

# Without a body.
sub send_headers {
    my ($self, @headers) = @_;
    return $self->_request({ end => 1 }, @headers);
}

sub _request {
    my ($self, $opt, @headers) = @_;
    $self->tell('request', %$opt, headers => [ map { [ map {"$_"} @$_ ] } @headers ]);
    return $self->await('begun')->{stream};
}

# Bytes of a stream; undef: of a new one.
sub raw {
    my ($self, $stream, $bytes, $end) = @_;
    $self->tell('raw', stream => $stream, hex => unpack('H*', $bytes), end => $end // 0);
    return $stream // $self->await('begun')->{stream};
}

# The status that a stream was answered with, when it is.
sub get {
    my ($self, @request) = @_;
    my $stream = $self->request(@request);
    my $status = $self->await('headers', $stream)->{status};
    $self->await('end', $stream);
    return $status;
}

# Without a word to the server; "close" was told before, if at all.
sub end {
    my ($self) = @_;
    my $pid = delete $self->{pid} or return;
    delete $LIVE{$pid};
    close $self->{in};
    kill KILL => $pid;
    waitpid $pid, 0;
    return;
}

sub DESTROY {
    my ($self) = @_;
    local ($@, $!, $?);
    $self->end if $self->{owner} == $$;
}

at_end(0, sub {
    local $?;
    for my $pid (grep { $LIVE{$_} == $$ } keys %LIVE) {
        kill KILL => $pid;
        waitpid $pid, 0;
    }
});

1;
