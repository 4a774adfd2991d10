# Who was slow? What is slow here shows in the one edgespan.time.* that means it, and
# all of them add up to the span.

use strict;
use warnings;

use IO::Socket::INET;
use Socket;
use Test::More;
use Time::HiRes qw(sleep);

use EdgespanTest;
use EdgespanTest::NginxTraced;
use EdgespanTest::Upstream;

# How long whoever is slow takes, and what is too little to be that.
my ($PAUSE, $FLOOR) = (1, 0.4);
my $BIG = 16 << 20;

my $up = EdgespanTest::Upstream->new(respond => sub {
    my ($path) = $_[0] =~ m{\A\S+ (\S+)};
    return 'hang' if $path =~ m{/hang};
    if ($path =~ m{/parts} && $_[0] =~ /^Range: bytes=(\d+)-(\d+)/mi) {
        return [ delay => 0.05 ], "HTTP/1.1 206 X\r\nContent-Length: 1\r\n"
            . "Content-Range: bytes $1-$2/30\r\n\r\nx";
    }
    my $size = $path =~ m{/big} ? $BIG : 10;
    my $body = 'x' x $size;
    return [ delay => $path =~ m{/late} ? $PAUSE : 0 ],
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: $size\r\n\r\n",
        substr($body, 0, $size / 2),
        [ delay => $path =~ m{/slowly} ? $PAUSE : 0 ], substr $body, $size / 2;
});

my $n = EdgespanTest::NginxTraced->new(
    vars  => { UP => $up->address },
    files => {
        'html/big'   => 'x' x $BIG,
        'html/medium' => 'x' x 30_000,
        'html/small' => 'x',
        'html/ssi/x' => '<!--# include virtual="/proxy/late1" --><!--# include virtual="/proxy/late2" -->',
    },
    http => <<'CONF');
proxy_http_version 1.1;
limit_req_zone $uri zone=slow:1m rate=1r/s;
server {
    listen 127.0.0.1:%%PORT1%%;
    client_max_body_size 1m;
    lingering_timeout 10s;
    proxy_max_temp_file_size 64m;
    location /proxy/ { proxy_pass http://%%UP%%; }
    location /never/ { client_body_timeout 1s; proxy_pass http://%%UP%%; }
    location /direct/ { proxy_request_buffering off; proxy_pass http://%%UP%%; }
    location /unbuffered/ { proxy_buffering off; proxy_pass http://%%UP%%; }
    location /auth/ { auth_request /check; proxy_pass http://%%UP%%; }
    location = /check { internal; proxy_pass_request_body off; proxy_set_header Content-Length "";
        proxy_pass http://%%UP%%/late; }
    location /parts { slice 1; proxy_set_header Range $slice_range; proxy_pass http://%%UP%%; }
    location = /rated { limit_rate 20k; alias %%PREFIX%%/html/medium; }
    location = /discard { return 200 discarded; }
    location /ssi/ { ssi on; ssi_types text/plain; }
    location /limited { limit_req zone=slow burst=5; alias %%PREFIX%%/html/small; }
}
CONF
$n->start;
my $port = $n->port(1);

# Sends texts, and pauses where there is a number; then reads, after a pause if
# $opt{read}, until the server closes; closes after one of $opt{stay}.
sub talk {
    my ($steps, %opt) = @_;
    return sub {
        my $sock = IO::Socket::INET->new(Proto => 'tcp') or die "socket: $!\n";
        # A small window, before the connection has one: what is not read stays there.
        setsockopt $sock, SOL_SOCKET, SO_RCVBUF, 65536 if $opt{read};
        connect $sock, pack_sockaddr_in($port, inet_aton('127.0.0.1')) or die "connect: $!\n";
        local $SIG{PIPE} = 'IGNORE';
        for my $step (@$steps) {
            if ($step =~ /\A[\d.]+\z/) { sleep $step; next }
            print {$sock} $step or last;
            $sock->flush;
        }
        sleep $opt{read} if $opt{read};
        my $text = '';
        while (sysread $sock, $text, 1 << 20, length $text) { }
        sleep $opt{stay} if $opt{stay};
        return $text;
    };
}

sub post {
    my ($path, @headers) = @_;
    return join "\r\n", "POST $path HTTP/1.1", 'Host: a', 'Connection: close', @headers, '', '';
}
sub get { return "GET $_[0] HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" }

# {phase => seconds} of the SERVER span; they add up.
sub phases {
    my ($span) = @_;
    my %phase = map { /^edgespan\.time\.(.*)/ ? ($1 => $span->{attrs}{$_}) : () }
        keys %{ $span->{attrs} };
    my $sum = 0;
    $sum += $_ for values %phase;
    my $took = ($span->{end} - $span->{start}) / 1e9;
    cmp_ok abs($sum - $took), '<', 2e-6, "the phases add up to $took s";
    note join ' ', map {"$_=$phase{$_}"} sort keys %phase;
    return \%phase;
}

my $half = 'h' x 50_000;
my $LENGTH = 'Content-Length: 100000';
# [what, request, phase that is slow, those that are not there at all, options:
#  status (200; undef: none), answer (regex)]
my @case = (
    [ 'nobody', talk([ get('/proxy/x') ]), undef, [qw(client_upload client_download)] ],
    [ 'nobody, a small body', talk([ post('/proxy/x', 'Content-Length: 3') . 'abc' ]), undef,
        ['client_upload'] ],
    [ 'the client\'s header', talk([ 'GET /proxy/x HT', $PAUSE, "TP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" ]),
        'client_upload', [] ],
    [ 'the client\'s body', talk([ post('/proxy/x', $LENGTH) . $half, $PAUSE, $half ]),
        'client_upload', [] ],
    [ 'the client\'s body, all of it', talk([ post('/proxy/x', $LENGTH), $PAUSE, $half . $half ]),
        'client_upload', [] ],
    [ 'a chunked body', talk([ post('/proxy/x', 'Transfer-Encoding: chunked') . "5\r\nabcde\r\n",
            $PAUSE, "0\r\n\r\n" ]), 'client_upload', [] ],
    [ 'a body that is sent on as it comes', talk([ post('/direct/x', $LENGTH) . $half, $PAUSE, $half ]),
        'client_upload', [] ],
    [ 'a body that nobody reads', talk([ post('/discard', $LENGTH) . $half, $PAUSE, $half ]),
        'client_upload', [], answer => qr/discarded/ ],
    [ 'a body that is too large', talk([ post('/proxy/x', 'Content-Length: 2000000') . $half, $PAUSE,
            $half ]), 'client_upload', [], status => 413 ],
    [ 'a body that never comes', talk([ post('/never/x', $LENGTH) . $half ]), 'client_upload',
        [qw(upstream_connect client_download)], status => undef, reason => 'request_timeout' ],
    [ 'the upstream, at first', talk([ get('/proxy/late') ]), 'upstream_first_byte',
        [qw(client_upload client_download)] ],
    [ 'the upstream, later', talk([ get('/proxy/slowly') ]), 'upstream_body',
        [qw(client_upload client_download)] ],
    [ 'who was asked by auth_request, while the body came', talk([ post('/auth/x', $LENGTH) . $half, $PAUSE,
            $half ]), 'upstream_first_byte', [] ],
    [ 'two upstreams at once', talk([ get('/ssi/x') ]), 'upstream_first_byte',
        [qw(client_upload client_download)] ],
    [ 'very many parts of a slice', talk([ get('/parts') ]), 'upstream_first_byte', ['client_upload'] ],
    [ 'the client, reading a file', talk([ get('/big') ], read => $PAUSE), 'client_download',
        ['client_upload'] ],
    [ 'the client, reading what an upstream had said at once', talk([ get('/proxy/big') ], read => $PAUSE),
        'client_download', ['client_upload'] ],
    [ 'the client, for which the upstream waits', talk([ get('/unbuffered/big') ], read => $PAUSE),
        'client_download', ['client_upload'] ],
    [ 'the client, which is to close', talk([ post('/proxy/x', 'Content-Length: 3') . 'abc' ], stay => $PAUSE),
        'client_download', ['client_upload'] ],
    [ 'limit_rate, which is the server', talk([ get('/rated') ]), 'server', [qw(client_upload client_download)] ],
    [ 'limit_req, which is the server', sub { talk([ get('/limited') ])->() for 1, 2 }, 'server',
        [qw(client_upload client_download)], lines => 2 ],
);

for my $case (@case) {
    my ($what, $do, $slow, $absent, %opt) = @$case;
    subtest $what => sub {
        my ($answer, @records) = $n->recorded($do, $opt{lines}, 30);
        my $span = $n->server_span($records[-1]);
        my $status = exists $opt{status} ? $opt{status} : 200;
        is $span->{attrs}{'http.response.status_code'}, $status, 'status';
        is $span->{attrs}{'edgespan.reason'}, $opt{reason}, 'reason';
        like $answer, $opt{answer}, 'answer' if $opt{answer};
        my $phase = phases($span);
        is $phase->{$_}, undef, "no $_" for @$absent;
        my ($most) = sort { $phase->{$b} <=> $phase->{$a} } keys %$phase;
        if (defined $slow) {
            is $most, $slow, "$slow is the slow one";
            cmp_ok $phase->{$slow} // 0, '>=', $FLOOR, 'as slow as it was';
        }
    };
}

$n->lint;
$n->finish;
done_testing;
