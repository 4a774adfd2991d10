#!/usr/bin/env perl
# The demo: nginx as a gateway in front of services on httpd, both traced. Sends
# some requests, prints one whole trace as a tree, and then every further trace
# as it comes in, until Ctrl-C. All on loopback; nothing is left behind.
#
#   make demo
#   DEMO_SECONDS=5 make demo                          ends by itself
#   DEMO_ENDPOINT=http://127.0.0.1:4318 make demo     sends to your collector, too

use strict;
use warnings;
use Cwd 'abs_path';
use File::Basename 'dirname';
use File::Temp 'tempdir';
use IO::Handle;
use IO::Socket::INET;
use POSIX ':sys_wait_h';
use Time::HiRes qw(sleep time);

use lib dirname(abs_path(__FILE__));
use Tree;

my $here  = dirname(abs_path(__FILE__));
my $root  = dirname(dirname($here));
my $build = "$root/" . ($ENV{BUILD} || 'build');

STDOUT->autoflush(1);

my $tmp = tempdir('edgespan-demo-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my @children;

# ------------------------------------------------------------ processes ---

# httpd ends all its processes on TERM; nginx waits for what is under way.
sub stop_all {
    kill TERM => @children;
    my $deadline = time + 5;
    while (@children && time < $deadline) {
        @children = grep { waitpid($_, WNOHANG) == 0 } @children;
        sleep 0.02 if @children;
    }
    kill KILL => @children;
    @children = ();
}

$SIG{INT} = $SIG{TERM} = $SIG{HUP} = sub { exit 0 };
my $owner = $$;
END { my $code = $?; stop_all() if defined $owner && $$ == $owner; $? = $code; }

sub spawn {
    my (@command) = @_;
    my $pid = fork // die "fork: $!";
    if ($pid == 0) {
        setpgrp;    # Ctrl-C is for this script, which stops them in order
        open STDOUT, '>>', "$tmp/output.log";
        open STDERR, '>&', \*STDOUT;
        exec @command or POSIX::_exit(127);
    }
    push @children, $pid;
}

sub find_program {
    my (@names) = @_;
    for my $dir (split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin') {
        for my $name (@names) { return "$dir/$name" if -x "$dir/$name" }
    }
    die "none of @names is installed: run \"make deps\"\n";
}

sub slurp { my ($file) = @_; open my $fh, '<', $file or return ''; local $/; return scalar <$fh> }

# A preferred port if it is free, else any.
sub port {
    my ($preferred) = @_;
    for my $port ($preferred, 0) {
        my $sock = IO::Socket::INET->new(
            LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 1, ReuseAddr => 1) or next;
        return $sock->sockport;
    }
    die "no free port\n";
}

sub wait_for_port {
    my ($port, $who) = @_;
    my $deadline = time + 15;
    until (IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port)) {
        die "$who does not start:\n" . slurp("$tmp/output.log") . slurp("$tmp/$who-error.log")
            if time > $deadline || waitpid(-1, WNOHANG) > 0;
        sleep 0.05;
    }
}

# -------------------------------------------------------- configuration ---

my %value = (
    TMP => $tmp, CGI => "$tmp/cgi",
    NGINX_MODULE => "$build/nginx/ngx_http_edgespan_module.so",
    HTTPD_MODULE => "$build/httpd/mod_edgespan.so",
    GATEWAY => port(8080), DASHBOARD => port(8081), USERS => port(8082), PRODUCTS => port(8083),
    INVENTORY => port(8084), NOBODY => port(8085),
    NGINX_EXPORTER => '', HTTPD_EXPORTER => '',
    HTTPD_USER => $> == 0 ? "User nobody\nGroup nogroup" : '',
);

if (my $endpoint = $ENV{DEMO_ENDPOINT}) {
    $value{NGINX_EXPORTER} = "otel_exporter { endpoint $endpoint; interval 1s; }";
    $value{HTTPD_EXPORTER} = "OtelExporter $endpoint interval=1s";
}

my $nginx = find_program('nginx');
my $httpd = find_program('apache2', 'httpd');
{
    my %built_in = map { $_ => 1 } `$httpd -l` =~ /(mod_\w+)\.c/g;
    my ($dir) = grep { -d } '/usr/lib/apache2/modules', '/usr/lib64/httpd/modules', '/usr/lib/httpd/modules';
    die "httpd's modules are not found\n" unless $dir;
    $value{LOAD_MODULES} = join "\n",
        map { $built_in{"mod_$_"} || !-e "$dir/mod_$_.so" ? () : "LoadModule ${_}_module $dir/mod_$_.so" }
        qw(mpm_event authz_core unixd log_config env alias cgid proxy proxy_http);
}

mkdir "$tmp/$_" for qw(spans cgi);
chmod 0755, $tmp;
chmod 0777, "$tmp/spans";
for my $script (glob "$here/cgi/*") {
    # A copy: the services may run as a user who cannot read the checkout.
    system('cp', '-p', $script, "$tmp/cgi/") == 0 or die "cp failed\n";
}
for my $name ('nginx.conf', 'httpd.conf') {
    (my $text = slurp("$here/$name")) =~ s/\@([A-Z_]+)\@/$value{$1} \/\/ die "unknown \@$1\@"/ge;
    open my $fh, '>', "$tmp/$name" or die "$tmp/$name: $!";
    print $fh $text;
    close $fh;
}

# ------------------------------------------------------------------ run ---

spawn($httpd, '-f', "$tmp/httpd.conf", '-DFOREGROUND');
spawn($nginx, '-p', $tmp, '-c', "$tmp/nginx.conf", '-e', "$tmp/nginx-error.log");
wait_for_port($value{DASHBOARD}, 'httpd');
wait_for_port($value{GATEWAY},   'nginx');

sub request {
    my ($path) = @_;
    my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $value{GATEWAY}) or return;
    print $sock "GET $path HTTP/1.0\r\nHost: shop.example\r\nUser-Agent: demo\r\n\r\n";
    local $/;
    return scalar <$sock>;
}

my $url = "http://127.0.0.1:$value{GATEWAY}";
print "Edgespan demo: nginx as a gateway at $url, four services on httpd behind it\n";

my $started = time;
my $ends    = defined $ENV{DEMO_SECONDS} ? $started + $ENV{DEMO_SECONDS} : undef;
my @paths   = ('/dashboard', ('/users/1', '/products/2', '/users/3', '/checkout') x 8, '/report');
request($_) for @paths;
printf "%d requests sent in %.1f s\n", scalar @paths, time - $started;

my $tree = Tree->new("$tmp/spans/gateway.jsonl", "$tmp/spans/services.jsonl");

# The dashboard's trace has 15 spans; the files are written a little later.
my ($trace, $deadline) = (undef, time + 10);
until ($trace) {
    $tree->read;
    ($trace) = grep { $tree->route($_) eq '/dashboard' && $tree->count($_) >= 15 } $tree->traces;
    die "the dashboard's trace did not arrive:\n" . slurp("$tmp/nginx-error.log") . slurp("$tmp/httpd-error.log")
        if !$trace && time > $deadline;
    sleep 0.05;
}
print "\n", $tree->draw($trace), $tree->waits($trace);

print "\nYour own trace:\n\n  curl -H 'traceparent: 00-", '0af7651916cd43dd8448eb211c80319c',
    "-b7ad6b7169203331-01' $url/dashboard\n\n";
print defined $ends ? "Ends by itself.\n" : "Every further trace is printed here. Ctrl-C ends.\n";

my %drawn = map { $_ => $tree->count($_) } $tree->traces;
while (!defined $ends || time < $ends) {
    sleep 0.2;
    $tree->read;
    for my $id ($tree->traces) {
        next if $tree->age($id) < 1 || ($drawn{$id} // 0) == $tree->count($id);
        print "\n", $tree->draw($id);
        $drawn{$id} = $tree->count($id);
    }
}
