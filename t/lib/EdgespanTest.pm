package EdgespanTest;

# Helpers shared by every test: waiting, ports, raw HTTP, process inspection.

use strict;
use warnings;

use Cwd qw(abs_path);
use Exporter qw(import);
use File::Basename qw(dirname);
use File::Temp ();
use IO::Select;
use IO::Socket::INET;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(
    wait_for free_port port_listening tmpdir slurp
    http_raw http_get header parse_response
    repo_root module_nginx module_httpd
    at_end proc_alive children_of session_pids proc_title rss_kb pss_kb
);

# A killed test must still run END blocks, or it would leave servers behind.
for my $sig (qw(INT TERM HUP)) {
    $SIG{$sig} = sub { exit 130 } unless defined $SIG{$sig};
}
$SIG{PIPE} = 'IGNORE';

# Timeouts are given as of a quick machine that has nothing else to do; a condition is
# waited for that many times longer.
use constant PATIENCE => 4;

sub wait_for {
    my ($code, $timeout, $what) = @_;
    $timeout = PATIENCE * ($timeout // 5);
    my $deadline = time + $timeout;
    while (1) {
        my $value = $code->();
        return $value if $value;
        last if time >= $deadline;
        sleep 0.01;
    }
    die sprintf "timed out after %.1fs waiting for %s\n", $timeout,
        $what // 'a condition';
}

# Code to run before the temporary directories go, lowest order first: servers
# (1) stop while the collectors (2) they flush to are still there.
{
    my @hooks;
    sub at_end {
        my ($order, $code) = @_;
        push @hooks, [ $order, $$, $code ];
        return;
    }

    END {
        for my $hook (sort { $a->[0] <=> $b->[0] } @hooks) {
            $hook->[2]->() if $hook->[1] == $$;
        }
    }
}

# Ports come from below the kernel's ephemeral range: a connect to a stopped
# server inside that range can connect to itself, and any outgoing connection
# could take the port while the server is down.
{
    my (%handed_out, $seeded);

    sub free_port {
        # Forked children must not replay the parent's sequence.
        if (!$seeded || $seeded != $$) {
            srand(time * 1000 ^ ($$ << 15));
            $seeded = $$;
        }
        my ($low) = (slurp('/proc/sys/net/ipv4/ip_local_port_range') // '')
            =~ /^(\d+)/;
        $low = 32768 if !$low || $low < 12000;
        for (1 .. 500) {
            my $port = 10240 + int rand($low - 10240);
            next if $handed_out{$port};
            my $sock = IO::Socket::INET->new(
                LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 1,
                Proto => 'tcp', ReuseAddr => 1,
            ) or next;
            close $sock;
            $handed_out{$port} = 1;
            return $port;
        }
        die "no free TCP port found\n";
    }
}

# Looks at the kernel's table instead of connecting: a probe connection would
# be visible to the server under test.
sub port_listening {
    my ($port) = @_;
    my $hex = sprintf '%04X', $port;
    for my $table (qw(/proc/net/tcp /proc/net/tcp6)) {
        my $text = slurp($table) // next;
        return 1 if $text =~ /^\s*\d+: [0-9A-F]+:$hex [0-9A-F]+:0000 0A /m;
    }
    return 0;
}

sub tmpdir {
    my $dir = File::Temp::tempdir(
        'edgespan-XXXXXXXX',
        DIR     => $ENV{TMPDIR} || '/tmp',
        CLEANUP => !$ENV{EDGESPAN_KEEP},
    );
    # Servers started as root drop to another user that must get in here.
    chmod 0755, $dir;
    print STDERR "# kept: $dir\n" if $ENV{EDGESPAN_KEEP};
    return $dir;
}

# undef when the file is not there: callers poll for files.
sub slurp {
    my ($file) = @_;
    open my $fh, '<:raw', $file or return undef;
    local $/;
    my $text = <$fh>;
    return $text // '';
}

# --- HTTP ---------------------------------------------------------------

# Options: timeout (20), until (regex that ends reading), half_close.
# List context: (text, 'eof'|'timeout'|'reset'|'matched').
sub http_raw {
    my ($port, $bytes, %opt) = @_;
    my $timeout = $opt{timeout} // PATIENCE * 5;
    my $deadline = time + $timeout;
    my $sock = IO::Socket::INET->new(
        PeerAddr => '127.0.0.1', PeerPort => $port, Proto => 'tcp', Timeout => $timeout,
    ) or die "connect to 127.0.0.1:$port: $!\n";
    $sock->blocking(0);
    my $select = IO::Select->new($sock);
    my ($sent, $text, $why) = (0, '', 'timeout');
    my $length = length $bytes;
    my $closed = 0;
    while ((my $left = $deadline - time) > 0) {
        # A server may answer before it has read everything, so both
        # directions are served in the same loop.
        my ($r, $w) = IO::Select->select(
            $select, $sent < $length ? $select : undef, undef, $left);
        if ($w && @$w) {
            my $n = syswrite $sock, $bytes, 65536, $sent;
            if    (defined $n)         { $sent += $n }
            elsif (!$!{EAGAIN})        { $sent = $length }
        }
        if ($opt{half_close} && $sent >= $length && !$closed++) {
            shutdown $sock, 1;
        }
        next unless $r && @$r;
        my $n = sysread $sock, $text, 65536, length $text;
        if (!defined $n) {
            next if $!{EAGAIN} || $!{EINTR};
            $why = 'reset';
            last;
        }
        if ($n == 0) { $why = 'eof'; last }
        if ($opt{until} && $text =~ $opt{until}) { $why = 'matched'; last }
    }
    close $sock;
    return wantarray ? ($text, $why) : $text;
}

# Options: headers [[n,v]..], method, body, host (undef: no Host line),
# version ('1.1'), timeout.
sub http_get {
    my ($port, $path, %opt) = @_;
    my $host = exists $opt{host} ? $opt{host} : 'localhost';
    my @headers = @{ $opt{headers} || [] };
    my %given = map { lc $_->[0] => 1 } @headers;
    unshift @headers, ['Host', $host] if defined $host && !$given{host};
    push @headers, ['Content-Length', length $opt{body}]
        if defined $opt{body} && !$given{'content-length'}
        && !$given{'transfer-encoding'};
    push @headers, ['Connection', 'close'] unless $given{connection};
    my $method = $opt{method} // 'GET';
    my $request = join "\r\n",
        "$method $path HTTP/" . ($opt{version} // '1.1'),
        (map {"$_->[0]: $_->[1]"} @headers), '', $opt{body} // '';
    my ($text, $why) = http_raw($port, $request,
        defined $opt{timeout} ? (timeout => $opt{timeout}) : ());
    my $res = parse_response($text, $method);
    $res->{ended} = $why;
    return $res;
}

# {status, reason, headers, body, raw}; status 0 when there was no response.
sub parse_response {
    my ($raw, $method) = @_;
    my $res = { status => 0, reason => '', headers => [], body => '',
                raw => $raw };
    my $rest = $raw;
    while ($rest =~ s/\A(HTTP\/\d\.\d (\d+) ?([^\r\n]*)(?:\r\n[^\r\n]+)*)\r\n\r\n//) {
        my ($head, $status, $reason) = ($1, $2, $3);
        my (undef, @lines) = split /\r\n/, $head;
        $res->{status} = $status;
        $res->{reason} = $reason;
        $res->{headers} = [ map { [ split /:[ \t]*/, $_, 2 ] } @lines ];
        last if $status >= 200;
    }
    return $res unless $res->{status};
    if (lc(header($res, 'Transfer-Encoding') // '') eq 'chunked'
        && ($method // 'GET') ne 'HEAD') {
        my $body = '';
        while ($rest =~ s/\A([0-9a-fA-F]+)[^\r\n]*\r\n//) {
            my $size = hex $1;
            last if !$size || length $rest < $size;
            $body .= substr $rest, 0, $size, '';
            $rest =~ s/\A\r\n//;
        }
        $rest = $body;
    }
    $res->{body} = $rest;
    return $res;
}

# Case-insensitive; first value in scalar context, all of them in list.
sub header {
    my ($res, $name) = @_;
    my @values = map { $_->[1] }
        grep { lc $_->[0] eq lc $name } @{ $res->{headers} };
    return wantarray ? @values : $values[0];
}

# --- Where things are ---------------------------------------------------

sub repo_root { return abs_path(dirname(abs_path(__FILE__)) . '/../..') }

sub module_nginx {
    return $ENV{EDGESPAN_NGINX_MODULE}
        || repo_root() . '/build/nginx/ngx_http_edgespan_module.so';
}

sub module_httpd {
    return $ENV{EDGESPAN_HTTPD_MODULE}
        || repo_root() . '/build/httpd/mod_edgespan.so';
}

# --- Processes ----------------------------------------------------------

# [state, ppid, pgrp, session] or nothing. The command name may hold spaces
# and parentheses, hence the greedy skip.
sub _stat {
    my ($pid) = @_;
    my $text = slurp("/proc/$pid/stat") // return;
    my ($tail) = $text =~ /^\d+ \(.*\) (.*)/s or return;
    return [ (split ' ', $tail)[0 .. 3] ];
}

sub _pids {
    opendir my $dh, '/proc' or return;
    return sort { $a <=> $b } grep {/^\d+$/} readdir $dh;
}

# A zombie is not alive: in a container nobody may ever reap it.
sub proc_alive {
    my ($pid) = @_;
    return 0 unless $pid;
    my $stat = _stat($pid) or return 0;
    return $stat->[0] !~ /^[ZX]/ ? 1 : 0;
}

sub _select_pids {
    my ($field, $value) = @_;
    return grep {
        my $stat = _stat($_);
        $stat && $stat->[0] !~ /^[ZX]/ && $stat->[$field] == $value;
    } _pids();
}

sub children_of  { return _select_pids(1, $_[0]) }
sub session_pids { return _select_pids(3, $_[0]) }

sub proc_title {
    my $text = slurp("/proc/$_[0]/cmdline") // return '';
    $text =~ s/\0+\z//;
    $text =~ tr/\0/ /;
    return $text;
}

sub rss_kb {
    my $text = slurp("/proc/$_[0]/status") // return undef;
    return $text =~ /^VmRSS:\s+(\d+)/m ? $1 : undef;
}

sub pss_kb {
    my $text = slurp("/proc/$_[0]/smaps_rollup") // return undef;
    return $text =~ /^Pss:\s+(\d+)/m ? $1 : undef;
}

1;
