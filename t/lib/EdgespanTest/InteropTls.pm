package EdgespanTest::InteropTls;

# Certificates for one test: an authority of its own, a server and a client that it
# vouches for; an authority that nobody knows, and the client that it vouches for.

use strict;
use warnings;

use POSIX ();

use EdgespanTest;

sub new {
    my ($class, $dir) = @_;
    my $self = bless { dir => $dir,
        map { $_ => "$dir/$_" } qw(ca server client stranger intruder) }, $class;
    for my $authority (qw(ca stranger)) {
        $self->_openssl($authority, 'req', '-x509', '-newkey', 'rsa:2048', '-nodes',
            '-keyout', "$self->{$authority}.key", '-out', "$self->{$authority}.crt",
            '-days', 1, '-subj', "/CN=Edgespan test $authority");
    }
    $self->_issue('server', 'ca', 'subjectAltName=DNS:localhost,IP:127.0.0.1');
    $self->_issue('client', 'ca', 'extendedKeyUsage=clientAuth');
    $self->_issue('intruder', 'stranger', 'extendedKeyUsage=clientAuth');
    # Read by servers that may run as another user.
    chmod 0644, glob "$dir/*.key";
    return $self;
}

sub _issue {
    my ($self, $name, $by, $extension) = @_;
    open my $ext, '>', "$self->{$name}.ext" or die "$self->{$name}.ext: $!\n";
    print {$ext} "$extension\n";
    close $ext;
    $self->_openssl($name, 'req', '-newkey', 'rsa:2048', '-nodes', '-subj', "/CN=$name",
        '-keyout', "$self->{$name}.key", '-out', "$self->{$name}.csr");
    $self->_openssl($name, 'x509', '-req', '-in', "$self->{$name}.csr", '-days', 1,
        '-CA', "$self->{$by}.crt", '-CAkey', "$self->{$by}.key", '-CAcreateserial',
        '-extfile', "$self->{$name}.ext", '-out', "$self->{$name}.crt");
    return;
}

sub _openssl {
    my ($self, $for, @args) = @_;
    my $log = "$self->{dir}/openssl.log";
    my $pid = fork // die "fork: $!\n";
    if (!$pid) {
        open STDOUT, '>', $log;
        open STDERR, '>&', \*STDOUT;
        exec 'openssl', @args or POSIX::_exit(127);
    }
    waitpid $pid, 0;
    die "openssl $args[0] for $for failed:\n" . (slurp($log) // '') if $?;
    return;
}

1;
