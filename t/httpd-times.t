# httpd: who was slow? The times of a request add up to it, and the slow one shows.

use strict;
use warnings;

use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(sleep);

use EdgespanTest;
use EdgespanTest::HttpdTraced;
use EdgespanTest::Upstream;

# How long whoever is slow takes.
my $PAUSE = 0.7;

my @PHASES = qw(client_upload server upstream_connect upstream_first_byte upstream_body
    client_download);

# More than what the kernel and httpd buffer of a response.
my $BIG = 20_000_000;
my $body = 'x' x $BIG;

sub phase { return $_[0]{attrs}{"edgespan.time.$_[1]"} // 0 }

# Of the phases of a SERVER span `slow` were; the others took what a machine under
# load may take for nothing.
sub slow_ok {
    my ($span, %slow) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $sum = 0;
    $sum += phase($span, $_) for @PHASES;
    my $duration = ($span->{end} - $span->{start}) / 1e9;
    cmp_ok abs($sum - $duration), '<', 1e-6, "the phases are the $duration s of it";
    cmp_ok phase($span, $_), '>=', $slow{$_}, "$_ was slow" for sort keys %slow;
    my ($most) = sort { phase($span, $b) <=> phase($span, $a) } @PHASES;
    ok exists $slow{$most}, "nothing was slower: $most";
}

# A request piece by piece, pauses between them as numbers; then a pause and all of the
# response. The SERVER span.
sub talk {
    my ($s, $pause, @pieces) = @_;
    return span_of($s, scalar recorded($s, sub {
        my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $s->port) or die;
        for (@pieces) {
            if (ref) { sleep $$_ }
            else { syswrite $sock, $_ or die "write: $!" }
        }
        sleep $pause;
        1 while sysread $sock, my $some, 1 << 20;
    }));
}

sub client_of {
    my ($s, $span) = @_;
    my ($client) = $s->{collector}->spans(kind => 'CLIENT', trace_id => $span->{trace_id});
    return $client;
}

sub post {
    my ($path, $length) = @_;
    return "POST $path HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: $length\r\n\r\n";
}

my %answer = (
    first => sub { ([ delay => $PAUSE ], EdgespanTest::Upstream::http_response()) },
    body  => sub {
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", 'o', [ delay => $PAUSE ], 'k');
    },
    big => sub { ("HTTP/1.1 200 OK\r\nContent-Length: $BIG\r\n\r\n", $body) },
);

sub upstream {
    return EdgespanTest::Upstream->new(respond => sub {
        my ($name) = $_[0] =~ m{^\w+ /(\w+)};
        return ($answer{$name} // \&EdgespanTest::Upstream::http_response)->();
    });
}

# --- Tests ----------------------------------------------------------------

for my $mpm (qw(event worker prefork)) {
    subtest "with $mpm" => sub {
        my $up = upstream();
        my $s = traced(mpm => $mpm, extra => ['reqtimeout'], vars => { UP => $up->address },
            files => { %SCRIPTS, 'html/big' => $body }, http => <<'END')->start;
RequestReadTimeout header=20 body=20
ProxyPass /up/ http://%%UP%%/
ScriptAlias /cgi/ %%PREFIX%%/cgi-bin/
END
        slow_ok(get($s, '/up/first'), upstream_first_byte => 0.3);
        slow_ok(get($s, '/up/body'), upstream_body => 0.3);
        slow_ok(get($s, '/cgi/slow'), server => 0.3);
        slow_ok(get($s, '/cgi/long'), server => 0.3);

        slow_ok(talk($s, 0, "GET / HTTP/1.1\r\n", \$PAUSE,
            "Host: a\r\nConnection: close\r\n\r\n"), client_upload => 0.3);
        my $span = talk($s, 0, post('/up/x', 2), \$PAUSE, 'ab');
        slow_ok($span, client_upload => 0.3);
        cmp_ok client_of($s, $span)->{start}, '>', $span->{start} + 2e8,
            'the upstream is asked when its body is there';
        slow_ok(talk($s, 0, post('/up/x', 40_000), 'x' x 20_000, \$PAUSE, 'x' x 20_000),
            client_upload => 0.3);
        slow_ok(talk($s, 0, post('/up/first', 40_000), 'x' x 20_000, \$PAUSE, 'x' x 20_000),
            client_upload => 0.3, upstream_first_byte => 0.3);

        slow_ok(talk($s, 2, "GET /big HTTP/1.0\r\n\r\n"), client_download => 0.3);
        $span = talk($s, 2, "GET /up/big HTTP/1.0\r\n\r\n");
        slow_ok($span, client_download => 0.3);
        is client_of($s, $span)->{attrs}{'http.response.status_code'}, 200, 'of an upstream, too';
        lint($s);
        $s->finish;
    };
}

subtest 'a plain request' => sub {
    my $s = traced(files => { 'html/x' => 'x' })->start;
    my $span = get($s, '/x');
    is phase($span, $_), 0, "no $_" for grep {/upload|upstream/} @PHASES;
    cmp_ok phase($span, $_), '>', 0, $_ for qw(server client_download);
    ok !defined $span->{attrs}{'edgespan.time.client_upload'}, 'what was not is not there';
    lint($s);
    $s->finish;
};

subtest 'kept at the end' => sub {
    my $up = upstream();
    my $s = traced(vars => { UP => $up->address }, http => <<'END')->start;
OtelSampleRate 0
OtelSampleKeep slow=300ms
ProxyPass /up/ http://%%UP%%/
END
    my $span = get($s, '/up/first');
    is $span->{attrs}{'edgespan.sampling.reason'}, 'slow', 'kept';
    slow_ok($span, upstream_first_byte => 0.3);
    lint($s);
    $s->finish;
};

subtest 'HTTP/2' => sub {
    plan skip_all => 'curl has no HTTP/2' unless `curl -V 2>&1` =~ /HTTP2/;
    my $up = upstream();
    my $s = traced(http2 => 1, vars => { UP => $up->address }, files => { 'html/x' => 'x' },
        http => 'ProxyPass /up/ http://%%UP%%/')->start;
    slow_ok(span_of($s, get_h2($s, '/up/first')), upstream_first_byte => 0.3);
    my $span = span_of($s, get_h2($s, '/x'));
    is phase($span, 'client_upload'), 0, 'the wait for a thread is no upload';
    # Three seconds, less what is under way in the end.
    slow_ok(span_of($s, get_h2($s, '/up/big', '--limit-rate', int $BIG / 3)),
        client_download => 0.2);
    slow_ok(span_of($s, get_h2($s, '/up/x', '-d', 'x' x 100_000, '--limit-rate', '200000')),
        client_upload => 0.1);
    lint($s);
    $s->finish;
};

done_testing;
