package EdgespanTest::Httpd;

# One Apache httpd 2.4 with our module, in its own ServerRoot.

use strict;
use warnings;

use parent 'EdgespanTest::Server';

use EdgespanTest;

my @MODULES = qw(
    authz_core unixd log_config env setenvif headers rewrite alias dir mime
    proxy proxy_http proxy_fcgi slotmem_shm proxy_balancer lbmethod_byrequests
    status actions
);

# Options: http (server configuration text), main (the same, but before Listen
# and our module), conf (all of it), mpm ('event'), sizing (MPM directives),
# workers (2 processes), threads (8 per process), extra ([module names]),
# http2 (0), module (1), user (www-data when root), defines ([names for -D]),
# env, vars, files, log_level ('info'), access_log (1), allow, name,
# start_timeout, stop_timeout: as for Nginx.
sub new {
    my ($class, %opt) = @_;
    my $self = $class->_new(
        mpm => 'event', workers => 2, threads => 8, extra => [],
        defines => [], log_level => 'info', access_log => 1, http => '',
        main => '', %opt);
    $self->{program}
        = $self->_find_program('EDGESPAN_HTTPD', 'apache2', 'httpd');
    $self->write_file('mime.types', "text/html html\ntext/plain txt\n");
    return $self;
}

sub kind        { return 'httpd' }
sub stop_signal { return 'TERM' }
sub module_file { return module_httpd() }

sub bad_log {
    # AH00046: a child ignored SIGTERM until its master lost patience.
    return qr/\[(?:\w+:)?(?:alert|emerg|crit)\]|seg(?:mentation)? fault
        |exit signal|AH00046/xi;
}

sub system_modules {
    return (grep {-d} $ENV{EDGESPAN_HTTPD_MODULES} // (),
        qw(/usr/lib/apache2/modules /usr/lib64/httpd/modules
           /usr/lib/httpd/modules /usr/libexec/apache2))[0];
}

sub command {
    my ($self, @more) = @_;
    return ($self->{program}, '-d', $self->{prefix},
        '-f', "$self->{prefix}/httpd.conf",
        (map {"-D$_"} @{ $self->{defines} }), @more ? @more : '-DFOREGROUND');
}

# Modules linked into the server must not be loaded again.
sub _builtin {
    my ($self) = @_;
    return $self->{builtin} //= do {
        my (undef, $text) = $self->_run($self->{program}, '-l');
        +{ map { $_ => 1 } $text =~ /\bmod_(\w+)\.c/g };
    };
}

sub _load_lines {
    my ($self) = @_;
    my %seen = %{ $self->_builtin };
    return map {"LoadModule ${_}_module %%SYSTEM_MODULES%%/mod_$_.so"}
        grep { !$seen{$_}++ } "mpm_$self->{mpm}", @MODULES,
        $self->{mpm} eq 'prefork' ? 'cgi' : 'cgid',
        $self->{http2} ? 'http2' : (), @{ $self->{extra} };
}

# A fixed number of processes, with spare slots for graceful restarts.
sub _sizing {
    my ($self) = @_;
    return $self->{sizing} if defined $self->{sizing};
    my ($n, $threads) = @$self{qw(workers threads)};
    my $all = $n * $threads;
    # One process less does not have that many idle threads: a graceful restart
    # brings all processes back.
    my $spare = $all - $threads + 1;
    return $self->{mpm} eq 'prefork'
        ? "StartServers $n\nMinSpareServers $n\nMaxSpareServers @{[$n + 20]}\n"
            . "MaxRequestWorkers @{[$n + 60]}\nServerLimit @{[$n + 60]}"
        : "StartServers $n\nServerLimit @{[$n + 6]}\nThreadLimit $threads\n"
            . "ThreadsPerChild $threads\nMaxRequestWorkers $all\n"
            . "MinSpareThreads $spare\nMaxSpareThreads $all";
}

# httpd refuses to serve as root.
sub _user_lines {
    my ($self) = @_;
    return () if $> != 0;
    my ($user) = grep { defined && defined getpwnam $_ }
        $self->{user}, qw(www-data apache nobody);
    my $group = getgrgid((getpwnam $user)[3]);
    return ("User $user", "Group $group");
}

sub config {
    my ($self) = @_;
    return $self->{conf} if defined $self->{conf};
    my $body = "$self->{main}\n$self->{http}";
    my $listens = $body =~ /^\s*Listen\s+(?:\S*:)?%%PORT1?%%/mi;
    return join "\n",
        'ServerRoot %%PREFIX%%', 'ServerName localhost',
        'DefaultRuntimeDir %%PREFIX%%/run',
        'PidFile %%PREFIX%%/run/server.pid',
        'ErrorLog %%PREFIX%%/error.log', "LogLevel $self->{log_level}",
        $self->_load_lines, $self->_user_lines, $self->_sizing,
        'TypesConfig %%PREFIX%%/mime.types',
        $self->{mpm} eq 'prefork' ? () : 'ScriptSock %%PREFIX%%/run/cgid.sock',
        $self->{http2} ? 'Protocols h2c http/1.1' : (),
        $self->{access_log} ? 'CustomLog %%PREFIX%%/access.log '
            . '"%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-Agent}i\""'
            : (),
        $self->{main},
        $listens ? () : 'Listen 127.0.0.1:%%PORT%%',
        $self->{module} ? 'LoadModule edgespan_module ' . module_httpd() : (),
        'DocumentRoot %%PREFIX%%/html',
        '<Directory %%PREFIX%%>', 'Require all granted', '</Directory>',
        $self->{http}, '';
}

sub write_config {
    my ($self) = @_;
    my $text = $self->expand($self->config);
    $self->write_file('httpd.conf', $text);
    $self->{listen} = [ $text =~ /^\s*Listen\s+(?:\S*:)?(\d+)\b/mgi ];
    return;
}

my $UP = qr/AH00163:|resuming normal operations/;

sub ready {
    my ($self, $mark) = @_;
    return 0 unless $self->_pid_from_file
        && $self->log_since($mark // 0) =~ $UP;
    return 0 unless $self->worker_pids >= $self->expected_workers;
    return !grep { !port_listening($_) } @{ $self->{listen} };
}

sub expected_workers {
    my ($self) = @_;
    return defined $self->{conf} || defined $self->{sizing}
        ? 1 : $self->{workers};
}

# Children that serve requests: all but the CGI daemon, which is known by its
# listening socket.
sub worker_pids {
    my ($self) = @_;
    my $master = $self->master_pid or return;
    my %cgid;
    my $sockets = slurp('/proc/net/unix') // '';
    while ($sockets =~ m{^\S+ (?:\S+ +){5}(\d+) \Q$self->{prefix}\E/run/cgid}mg) {
        $cgid{"socket:[$1]"} = 1;
    }
    my @pids = grep {
        my $pid = $_;
        !grep { $cgid{ readlink($_) // '' } } glob "/proc/$pid/fd/*";
    } children_of($master);
    $self->{pids}{$_} = 1 for @pids;
    return @pids;
}

sub test {
    my ($self, $http) = @_;
    local $self->{http} = $http // $self->{http};
    $self->write_config;
    return $self->_run($self->command('-t'));
}

# USR1, or HUP with hard => 1; optionally with a new http text. Returns when
# the new generation is up. The old one gets a second to leave, unless
# drain => 0 (do not wait) or drain => 1 (it must go). timeout (10).
sub reload {
    my ($self, $http, %opt) = @_;
    $self->{http} = $http if defined $http;
    $self->write_config;
    my %old = map { $_ => 1 } $self->worker_pids;
    my $mark = $self->log_mark;
    my $timeout = $opt{timeout} // 10;
    $self->signal($opt{hard} ? 'HUP' : 'USR1');
    $self->_wait_logged($mark, sub {
        die "reload failed, httpd ended:\n" . $self->log_since($mark)
            . $self->stderr_log unless $self->running;
        return $self->log_since($mark) =~ $UP
            && (grep { !$old{$_} } $self->worker_pids)
                >= $self->expected_workers;
    }, $timeout, 'a new httpd generation');
    my $drain = $opt{drain} // $opt{hard};
    return 1 if defined $drain && !$drain;
    my $gone = eval {
        wait_for(sub { !grep { $old{$_} } $self->worker_pids },
            $drain ? $timeout : 1, 'old httpd children to end');
    };
    die $@ if !$gone && $drain;
    return 1;
}

1;
