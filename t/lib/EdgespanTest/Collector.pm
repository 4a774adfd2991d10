package EdgespanTest::Collector;

# A scriptable collector: OTLP/HTTP in protobuf and JSON, Zipkin, Jaeger, told
# apart by what a request says of itself; each compressed or not. The server part runs in a child process
# (EdgespanTest::CollectorServer); what it received is shared through files:
#   NNNNNN.hdr   X-Time, X-Answered (no|CODE), X-Conn, X-Mode, an empty line,
#                then the request line and headers as they came
#   NNNNNN.bin   the request body, chunks joined

use strict;
use warnings;

use Errno qw(EADDRINUSE);
use IO::Socket::INET;
use IO::Uncompress::Gunzip qw(gunzip $GunzipError);
use POSIX ();
use Scalar::Util qw(weaken);
use Socket;
use Test::More ();
use Time::HiRes qw(time);

use EdgespanTest;
use EdgespanTest::CollectorServer;
use EdgespanTest::Jaeger;
use EdgespanTest::Otlp;
use EdgespanTest::Tree;
use EdgespanTest::Zipkin;

my %LIVE;

# What is wrong with spans that any collector of this test saw, and what of them has to
# fit to others.
my (@BAD, %SEEN);

# Options: port (a free one), mode ('ok'), start (1).
sub new {
    my ($class, %opt) = @_;
    my $self = bless {
        dir => tmpdir(), port => $opt{port}, mode => $opt{mode} // 'ok',
        owner => $$, requests => [], open => [], spans => [], ids => {},
        decoded_n => {}, counted_n => {},
    }, $class;
    weaken($LIVE{$self} = $self);
    $self->start unless exists $opt{start} && !$opt{start};
    return $self;
}

sub port { return $_[0]{port} //= free_port() }
sub base { return 'http://127.0.0.1:' . $_[0]->port }
sub url  { return $_[0]->base . '/v1/traces' }
sub server_class { return 'EdgespanTest::CollectorServer' }
sub dir  { return $_[0]{dir} }
sub pid  { return $_[0]{pid} }

# The socket listens before the child exists, so nobody has to wait for it.
sub start {
    my ($self) = @_;
    die "collector is already running\n" if $self->{pid};
    my $fixed = defined $self->{port};
    my $listener = wait_for(sub {
        $self->{port} = free_port() unless $fixed;
        my $sock = IO::Socket::INET->new(
            LocalAddr => '127.0.0.1', LocalPort => $self->{port},
            Proto => 'tcp', Listen => 511, ReuseAddr => 1);
        die "collector cannot listen on $self->{port}: $!\n"
            if !$sock && $! != EADDRINUSE;
        return $sock;
    }, 5, 'a free port for the collector');

    socketpair(my $ours, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC)
        or die "socketpair: $!\n";
    $ours->autoflush(1);
    my $pid = fork // die "fork: $!\n";
    if (!$pid) {
        eval {
            $self->server_class->run(
                listener => $listener, control => $theirs,
                dir => $self->{dir}, mode => $self->{mode});
            1;
        } or print STDERR "# collector failed: $@";
        # No END blocks and no destructors: they belong to the test process.
        POSIX::_exit($@ ? 1 : 0);
    }
    close $listener;
    close $theirs;
    @$self{qw(pid control)} = ($pid, $ours);
    return $self;
}

# The child ends at a request boundary, so that no answer counts as given
# without having been sent.
sub stop {
    my ($self) = @_;
    my $pid = delete $self->{pid} or return;
    close delete $self->{control};
    my $gone = eval {
        wait_for(sub { waitpid($pid, POSIX::WNOHANG()) || !proc_alive($pid) },
            2, 'the collector to stop');
    };
    if (!$gone) {
        kill KILL => $pid;
        waitpid $pid, 0;
    }
    return;
}

# Without an argument: the current mode. With one: returns once the child has
# confirmed it.
sub mode {
    my ($self, $mode) = @_;
    return $self->{mode} unless defined $mode;
    $self->server_class->check_mode($mode);
    $self->{mode} = $mode;
    if ($self->{pid}) {
        print { $self->{control} } unpack('H*', $mode), "\n";
        my $answer = readline $self->{control};
        die "collector does not confirm mode $mode\n"
            unless defined $answer && $answer eq "ok\n";
    }
    return $mode;
}

# --- What arrived -------------------------------------------------------

sub _read_hdr {
    my ($self, $n) = @_;
    my $base = sprintf '%s/%06d', $self->{dir}, $n;
    my $text = slurp("$base.hdr") // return;
    my ($meta, $head) = split /\n\n/, $text, 2;
    my %meta = $meta =~ /^X-(\w+): (.*)$/mg;
    my ($line, @lines) = split /\r?\n/, $head;
    my ($method, $path) = split ' ', $line;
    return {
        n => $n, file => "$base.bin", method => $method, path => $path,
        request_line => $line, conn => $meta{Conn}, mode => $meta{Mode},
        headers => [ map { [ split /:[ \t]*/, $_, 2 ] } @lines ],
        answered => $meta{Answered}, time => $meta{Time},
        size => -s "$base.bin",
    };
}

# Files are numbered without gaps, so only new and unanswered ones are read.
sub _poll {
    my ($self) = @_;
    my $all = $self->{requests};
    for my $i (@{ $self->{open} }) {
        my $fresh = $self->_read_hdr($i + 1);
        $all->[$i]{answered} = $fresh->{answered};
    }
    while (my $req = $self->_read_hdr(@$all + 1)) { push @$all, $req }
    my $from = @{ $self->{open} } ? $self->{open}[0] : $self->{polled} // 0;
    $self->{open} = [ grep { $all->[$_]{answered} eq 'no' } $from .. $#$all ];
    $self->{polled} = @$all;
    return $all;
}

# Request hashes: n, method, path, request_line, headers, file, size,
# answered ('no' or the status code), time, conn (connection number), mode.
sub requests {
    my ($self) = @_;
    my $all = $self->_poll;
    return wantarray ? @$all : [@$all];
}

# The request body, decompressed.
sub body {
    my ($self, $req) = @_;
    my $body = slurp($req->{file}) // die "no $req->{file}\n";
    my $coding = header($req, 'Content-Encoding') // '';
    if (lc $coding eq 'gzip') {
        gunzip(\$body => \my $plain) or die "bad gzip body: $GunzipError\n";
        return $plain;
    }
    die "Content-Encoding $coding\n" unless $coding =~ /^(?:|identity)$/i;
    return $body;
}

# Zipkin and Jaeger have no place for some of what the rules are about.
sub _is_foreign {
    my ($req) = @_;
    my $decoder = _decoder($req);
    return $decoder && $decoder != \&EdgespanTest::Otlp::decode_json_body;
}

# What decodes a request; undef: OTLP as protobuf.
sub _decoder {
    my ($req) = @_;
    my $type = header($req, 'Content-Type') // '';
    return \&EdgespanTest::Jaeger::decode if $type =~ /thrift/;
    return undef if $type !~ m{^application/json\b};
    return $req->{path} =~ m{/api/v2/spans$} ? \&EdgespanTest::Zipkin::decode
        : \&EdgespanTest::Otlp::decode_json_body;
}

# Acknowledged trace requests that $seen does not hold yet. The caller enters
# them there after decoding, so that a body that cannot be decoded fails again
# at the next call instead of going missing.
sub _new_traces {
    my ($self, $seen) = @_;
    return grep {
        !$self->{$seen}{ $_->{n} } && $_->{answered} =~ /^2/
            && $_->{path} !~ m{/v1/(?:metrics|logs)$}
    } @{ $self->_poll };
}

# Spans of acknowledged requests, in order of arrival. Each carries request_n.
# Filters: top-level span keys and attr => {k => v}; values are compared as
# strings or matched when they are qr//.
sub spans {
    my ($self, %filter) = @_;
    my @new = $self->_new_traces('decoded_n');
    my @proto = grep { !_decoder($_) } @new;
    my @lists = EdgespanTest::Otlp::decode_many(map { $self->body($_) } @proto);
    my %spans;
    @spans{ map { $_->{n} } @proto } = @lists;
    for my $req (@new) {
        my $list = $spans{ $req->{n} }
            // [ _decoder($req)->($self->body($req)) ];
        $_->{request_n} = $req->{n} for @$list;
        $self->{decoded_n}{ $req->{n} } = $list;
        $self->_lint($list) unless _is_foreign($req);
    }
    if (@new) {
        my $by = $self->{decoded_n};
        $self->{spans} = [ map {@$_} @$by{ sort { $a <=> $b } keys %$by } ];
    }
    my @found = %filter
        ? grep { _matches($_, \%filter) } @{ $self->{spans} }
        : @{ $self->{spans} };
    return wantarray ? @found : \@found;
}

# No test has to ask for it: rules that hold for every span, whatever became of others.
# One that is sent again is the same again.
sub _lint {
    my ($self, $list) = @_;
    push @BAD, EdgespanTest::Otlp::lint($list);
    for my $s (@$list) {
        my %what = map { $_ => $s->{$_} } qw(trace_id span_id parent_span_id kind name start end);
        $what{attrs}{'edgespan.background'} = $s->{attrs}{'edgespan.background'};
        my $before = $SEEN{"$s->{trace_id}$s->{span_id}"} //= \%what;
        my @other = grep { $before->{$_} ne $what{$_} } grep { $_ ne 'attrs' } sort keys %what;
        push @BAD, map {"$s->{span_id} '$s->{name}': $_ was $before->{$_}, is $what{$_}"} @other;
    }
    return;
}

sub _matches {
    my ($have, $want) = @_;
    for my $key (keys %$want) {
        my $expect = $want->{$key};
        my $field = $key eq 'attr' ? 'attrs' : $key;
        my $value = $have->{$field};
        if (ref $expect eq 'HASH') {
            return 0 unless ref $value eq 'HASH' && _matches($value, $expect);
            next;
        }
        return 0 if defined $value xor defined $expect;
        next unless defined $value;
        return 0 unless ref $expect eq 'Regexp' ? $value =~ $expect
                                                : $value eq $expect;
    }
    return 1;
}

sub wait_spans {
    my ($self, $n, $timeout, %filter) = @_;
    my @spans;
    eval {
        wait_for(sub { (@spans = $self->spans(%filter)) >= $n },
            $timeout // 10, "$n spans at the collector");
    } or do {
        my $error = $@;
        my @all = $self->spans;
        my %answers;
        $answers{ $_->{answered} }++ for $self->requests;
        die $error, sprintf("%d matching spans, %d in all; requests: %s\n",
            scalar @spans, scalar @all,
            join(', ', map {"$answers{$_} answered $_"} sort keys %answers)
                || 'none'),
            EdgespanTest::Tree::tree([ @all > 50 ? @all[0 .. 49] : @all ]);
    };
    return wantarray ? @spans : \@spans;
}

sub wait_requests {
    my ($self, $n, $timeout) = @_;
    wait_for(sub { @{ $self->_poll } >= $n }, $timeout // 10,
        "$n requests at the collector");
    return $self->requests;
}

# {hex span id => how often it was acknowledged}; the hash grows in place and
# is not a copy. Reads ids from the wire only: fit for 100k spans and more.
sub span_ids_fast {
    my ($self) = @_;
    my $ids = $self->{ids};
    for my $req ($self->_new_traces('counted_n')) {
        my $body = $self->body($req);
        my $decoder = _decoder($req);
        my @ids = $decoder ? map { $_->{span_id} } $decoder->($body)
            : EdgespanTest::Otlp::span_ids($body);
        $ids->{$_}++ for @ids;
        $self->{counted_n}{ $req->{n} } = 1;
    }
    return $ids;
}

# Complaints of the server part about what it could not read as HTTP.
sub errors { return slurp("$_[0]{dir}/errors") // '' }

sub DESTROY {
    my ($self) = @_;
    return unless $self->{owner} == $$;
    local ($@, $!, $?);
    $self->stop;
    delete $LIVE{$self};
}

at_end(0, sub {
    push @BAD, EdgespanTest::Otlp::lint_traces([ values %SEEN ]);
    return unless @BAD;
    Test::More::diag(join "\n", 'spans that break the rules:', @BAD > 20 ? @BAD[0 .. 19] : @BAD);
    $? ||= 1;
});

at_end(2, sub {
    local $?;
    $_ && $_->{owner} == $$ && $_->stop for values %LIVE;
});

1;
