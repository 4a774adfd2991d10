package EdgespanTest::Nginx;

# One nginx with our module, in its own prefix.

use strict;
use warnings;

use parent 'EdgespanTest::Server';

use EdgespanTest;

# Options: http, main, events (configuration text), conf (all of it),
# workers (1), worker_connections (1024), module (1), user ('root' when root),
# env {NAME => value}, vars {NAME => text for %%NAME%%}, files {path => text},
# daemon (0), master (1), log_level ('info'), access_log (1), allow (qr//),
# name (of the final test), start_timeout, stop_timeout.
sub new {
    my ($class, %opt) = @_;
    my $self = $class->_new(
        workers => 1, worker_connections => 1024, daemon => 0, master => 1,
        log_level => $ENV{EDGESPAN_NGINX_LOG_LEVEL} || 'info', access_log => 1, http => '', main => '',
        events => '', %opt);
    $self->{program} = $self->_find_program('EDGESPAN_NGINX', 'nginx');
    $self->{version} = $self->_version;
    return $self;
}

sub kind        { return 'nginx' }
sub stop_signal { return 'QUIT' }
sub module_file { return module_nginx() }

# Before 1.21.2 nginx does not know how OpenSSL 3 says that a client has gone.
sub bad_log {
    my ($self) = @_;
    my $gone = $self->version lt v1.21.2 ? qr/SSL_read\(\) failed .*unexpected eof/ : qr/(?!)/;
    return qr/\[(?:alert|emerg|crit)\](?!.*$gone)|exited on signal/;
}

sub system_modules {
    return (grep {-d} $ENV{EDGESPAN_NGINX_MODULES} // (),
        qw(/usr/lib/nginx/modules /usr/lib64/nginx/modules))[0];
}

# A version string: $n->version ge v1.25.1.
sub version { return $_[0]{version} }

my %VERSION;

sub _version {
    my ($self) = @_;
    return $VERSION{ $self->{program} } //= do {
        my (undef, $text) = $self->_run($self->{program}, '-v');
        $text =~ m{nginx/(\d+)\.(\d+)\.(\d+)} or die "$self->{program} -v: $text\n";
        pack 'U*', $1, $2, $3;
    };
}

# Whether it was configured with an option: "http_v3_module".
sub built_with {
    my ($self, $option) = @_;
    my (undef, $text) = $self->_run($self->{program}, '-V');
    return $text =~ /--with-\Q$option\E\b/;
}

sub command {
    my ($self, @more) = @_;
    my $prefix = $self->{prefix};
    # -e: nginx would try its built-in log first, which only root may open.
    return ($self->{program}, '-p', "$prefix/",
        $self->version ge v1.19.5 ? ('-e', "$prefix/error.log") : (),
        '-c', "$prefix/nginx.conf", @more);
}

sub config {
    my ($self) = @_;
    return $self->{conf} if defined $self->{conf};
    my $on = sub { $_[0] ? 'on' : 'off' };
    my $user = exists $self->{user} ? $self->{user} : $> == 0 ? 'root' : undef;
    return join "\n",
        $self->{module} && !$ENV{EDGESPAN_NGINX_STATIC} ? 'load_module ' . module_nginx() . ';' : (),
        defined $user ? "user $user;" : (),
        'pid %%PREFIX%%/run/server.pid;',
        "error_log %%PREFIX%%/error.log $self->{log_level};",
        'daemon ' . $on->($self->{daemon}) . ';',
        'master_process ' . $on->($self->{master}) . ';',
        "worker_processes $self->{workers};",
        (map {"env $_;"} sort keys %{ $self->{env} }),
        $self->{main},
        "events { worker_connections $self->{worker_connections};",
        $self->{events}, '}',
        'http {',
        (map {"    ${_}_temp_path %%PREFIX%%/tmp/$_;"}
            qw(client_body proxy fastcgi uwsgi scgi)),
        '    access_log '
            . ($self->{access_log} ? '%%PREFIX%%/access.log' : 'off') . ';',
        '    default_type text/plain;',
        '    root %%PREFIX%%/html;',
        $self->{http}, '}', '';
}

sub write_config {
    my ($self) = @_;
    my $text = $self->expand($self->config);
    $self->write_file('nginx.conf', $text);
    # Ports that a listen directive names have to accept before start returns.
    $self->{listen} = [ $text =~ /^[^#\n]*\blisten\s+(?:[^\s;]*:)?(\d+)(?!\S*\.)/mg ];
    return;
}

sub ready {
    my ($self) = @_;
    return 0 unless $self->_pid_from_file;
    return 0 if $self->{master} && $self->worker_pids < $self->expected_workers;
    return !grep { !port_listening($_) } @{ $self->{listen} };
}

sub expected_workers {
    my ($self) = @_;
    return $self->{workers} =~ /^\d+$/ && !defined $self->{conf}
        ? $self->{workers} : 1;
}

# Serving workers; shutting_down => 1 adds those that are on their way out.
# Cache helpers and other children of the master are not workers.
sub worker_pids {
    my ($self, %opt) = @_;
    my $master = $self->master_pid or return;
    return $master unless $self->{master};
    my @pids;
    for my $pid (children_of($master)) {
        my $title = proc_title($pid);
        next unless $title =~ /^nginx: worker process/;
        next if $title =~ /is shutting down/ && !$opt{shutting_down};
        push @pids, $pid;
    }
    $self->{pids}{$_} = 1 for @pids;
    return @pids;
}

# (ok, output) of nginx -t with the current, or another, http text.
sub test {
    my ($self, $http) = @_;
    local $self->{http} = $http // $self->{http};
    $self->write_config;
    return $self->_run($self->command('-t'));
}

# HUP, optionally with a new http text. Returns when only workers of the new
# generation serve; dies when nginx refuses the configuration.
# Options: drain => 1 waits for the old workers to be gone; timeout (10).
sub reload {
    my ($self, $http, %opt) = @_;
    $self->{http} = $http if defined $http;
    $self->write_config;
    my %old = map { $_ => 1 } $self->worker_pids(shutting_down => 1);
    my $mark = $self->log_mark;
    $self->signal('HUP');
    $self->_wait_logged($mark, sub {
        die "reload failed: $1\n"
            if $self->log_since($mark) =~ /^(.*\[emerg\].*)$/m;
        my @now = $self->worker_pids;
        @now >= $self->expected_workers && !grep { $old{$_} } @now;
    }, $opt{timeout} // 10, 'new nginx workers');
    if ($opt{drain}) {
        wait_for(sub { !grep { $old{$_} }
            $self->worker_pids(shutting_down => 1) },
            $opt{timeout} // 10, 'old nginx workers to end');
    }
    return 1;
}

1;
