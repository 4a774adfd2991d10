package EdgespanTest::PhpFpm;

# PHP-FPM on a socket of its own, started, stopped and looked after as the web servers are.

use strict;
use warnings;

use parent 'EdgespanTest::Server';

use EdgespanTest;

# Its file name has a version in it. undef: it is not there.
sub program {
    return (sort { $b cmp $a } grep {-x} map { glob "$_/php-fpm*" }
        qw(/usr/sbin /usr/local/sbin /usr/bin))[0];
}

sub new {
    my ($class, %opt) = @_;
    my $self = $class->_new(module => 0, start_timeout => 30, %opt);
    $self->{program} = program();
    return $self;
}

sub kind           { return 'php-fpm' }
sub stop_signal    { return 'TERM' }
sub system_modules { return '' }
sub module_file    { return module_httpd() }
sub bad_log        { return qr/\bALERT\b|\bERROR\b/ }

sub socket_file { return $_[0]{prefix} . '/php.sock' }

# -n: no php.ini, -R: tests may run as root.
sub command {
    my ($self) = @_;
    return ($self->{program}, '-n', '-R', '-F', '-y', "$self->{prefix}/fpm.conf");
}

sub write_config {
    my ($self) = @_;
    return $self->write_file('fpm.conf', <<"END");
[global]
error_log = $self->{prefix}/error.log
[www]
@{[ $> == 0 ? "user = www-data\ngroup = www-data" : '' ]}
listen = @{[ $self->socket_file ]}
listen.mode = 0666
pm = static
pm.max_children = 2
php_flag[display_errors] = off
END
}

sub ready {
    my ($self) = @_;
    return -S $self->socket_file && ($self->log_since(0) =~ /ready to handle connections/);
}

1;
