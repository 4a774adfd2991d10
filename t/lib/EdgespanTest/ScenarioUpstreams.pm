package EdgespanTest::ScenarioUpstreams;

# What is behind the servers of scenarios, and what it got.

use strict;
use warnings;

use EdgespanTest;
use EdgespanTest::GrpcCollector;
use EdgespanTest::Upstream;

# The HTTP upstreams answer by the first word of the path.
my %ANSWERS = (
    fails     => sub { _answer(500) },
    lacks     => sub { _answer(404) },
    busy      => sub { _answer(503) },
    closes    => sub { 'close' },
    truncates => sub { ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", 'close') },
    moved     => sub { _answer(302, 'Location: /elsewhere') },
    accel     => sub { _answer(200, 'X-Accel-Redirect: /protected/index.html', 'X-Sendfile: index.html') },
    second    => sub { _answer(200, 'X-Accel-Redirect: /protected/x') },
    fresh     => sub { _answer(200, 'Cache-Control: max-age=600', 'ETag: "1"') },
    stale     => sub {
        return $_[0] =~ /^If-None-Match: *"1"/mi ? "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n"
            : _answer(200, 'Cache-Control: max-age=0', 'X-Accel-Expires: @1', 'ETag: "1"');
    },
    pieces    => sub {
        my ($from, $to) = $_[0] =~ /^Range: bytes=(\d+)-(\d+)/mi or return _answer(416);
        my $part = substr '123456789', $from, $to - $from + 1;
        return "HTTP/1.1 206 Part\r\nContent-Range: bytes $from-" . ($from + length($part) - 1) . "/9\r\nETag: \"1\"\r\n"
            . 'Content-Length: ' . length($part) . "\r\n\r\n$part";
    },
    cookies   => sub { _answer(200, 'Set-Cookie: a=1', 'Set-Cookie: b=2', 'X-Version: 7') },
    socket    => sub {
        my ($key) = $_[0] =~ /^Upgrade: *(\S+)/mi;
        return $key ? "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: $key\r\n\r\n"
            : _answer(426);
    },
);

sub _answer {
    my ($status, @lines) = @_;
    my $body = $status == 200 ? "ok\n" : "$status\n";
    return join "\r\n", "HTTP/1.1 $status Said", @lines, 'Content-Type: text/plain',
        'Content-Length: ' . length $body, '', $body;
}

sub _respond {
    my ($bytes) = @_;
    # What a tunnel carries is no request.
    return (uc $1, 'close') if $bytes =~ /\A(\w+)\r\n/;
    my ($word) = $bytes =~ m{\A[A-Z]+ /(\w+)};
    return ($ANSWERS{ $word // '' } // sub { _answer(200) })->($bytes);
}

sub new {
    my ($class) = @_;
    my %plain = (
        upstream => EdgespanTest::Upstream->new(respond => \&_respond),
        failing  => EdgespanTest::Upstream->new(respond => sub { _answer(503) }),
        hanging  => EdgespanTest::Upstream->new(respond => sub { 'hang' }),
        socket   => EdgespanTest::Upstream->new(respond => \&_respond, unix => tmpdir() . '/socket'),
        (map { $_ => EdgespanTest::Upstream->new(protocol => $_) } qw(fastcgi scgi uwsgi)),
    );
    return bless { %plain, EdgespanTest::GrpcCollector::missing() ? () : (
        # A collector of gRPC is a service like others.
        grpc      => EdgespanTest::GrpcCollector->new,
        grpc_away => EdgespanTest::GrpcCollector->new(mode => 'status:14'),
        grpc_none => EdgespanTest::GrpcCollector->new(mode => 'trailers_only:12'),
    ) }, $class;
}

# Their addresses, as %%NAME%% in configurations; DEAD1 and DEAD2 are those where nobody
# listens.
sub vars {
    my ($self) = @_;
    return {
        (map { uc $_ => $self->{$_}{unix} // '127.0.0.1:' . $self->{$_}->port } keys %$self),
        DEAD1 => '127.0.0.1:' . free_port(), DEAD2 => '127.0.0.1:' . free_port(),
        UPSTREAM_PORT => $self->{upstream}->port,
    };
}

# How many requests each got by now.
sub mark {
    my ($self) = @_;
    return { map { $_ => scalar(() = $self->{$_}->requests) } keys %$self };
}

sub wait_for_more {
    my ($self, $mark, $name, $n) = @_;
    $self->{$name}->wait_requests($mark->{$name} + $n, 30);
    return;
}

# {name => what it got since then}.
sub since {
    my ($self, $mark) = @_;
    my %received;
    for my $name (keys %$self) {
        my @all = $self->{$name}->requests;
        $received{$name} = [ map { _received($self->{$name}, $_) } splice @all, $mark->{$name} ];
    }
    return \%received;
}

# What an upstream got, as scenarios tell it: the request line without its version,
# and {lowercase name => [values]}.
sub _received {
    my ($upstream, $bytes) = @_;
    if (ref $bytes) {
        my %headers;
        push @{ $headers{ lc $_->[0] } }, $_->[1] for @{ $bytes->{headers} };
        return { line => "$bytes->{method} $bytes->{path}", headers => \%headers };
    }
    if ($upstream->{protocol} ne 'http') {
        my %params = %{ $upstream->params($bytes) };
        my %headers = map { /^HTTP_(.*)/ ? (lc($1) =~ tr/_/-/r => $params{$_}) : () } keys %params;
        return { line => "$params{REQUEST_METHOD}[0] $params{REQUEST_URI}[0]", headers => \%headers };
    }
    my ($head) = split /\r\n\r\n/, $bytes;
    my ($line, @lines) = split /\r\n/, $head;
    $line =~ s{ HTTP/\S+$}{};
    my %headers;
    push @{ $headers{ lc $1 } }, $2 while $head =~ /^([^:\s]+):[ \t]*(.*?)\r?$/mg;
    return { line => $line, headers => \%headers };
}

1;
