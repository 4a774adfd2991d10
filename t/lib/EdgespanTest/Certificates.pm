# Certificate authorities and what they have signed, for servers and clients, in a
# directory that servers may read: NAME.pem and NAME.key.
package EdgespanTest::Certificates;

use strict;
use warnings;

use EdgespanTest;

# The names that certificates are good for: localhost and 127.0.0.1, if not given.
sub new {
    my ($class, $names) = @_;
    my $self = bless { dir => tmpdir() }, $class;
    open my $san, '>', "$self->{dir}/san" or die "$self->{dir}: $!\n";
    print {$san} 'subjectAltName=', $names // 'DNS:localhost,IP:127.0.0.1', "\n";
    close $san;
    return $self;
}

sub _openssl {
    my ($self, $command) = @_;
    system("cd $self->{dir} && openssl $command >openssl.log 2>&1") == 0
        or die "openssl $command: ", slurp("$self->{dir}/openssl.log");
    chmod 0644, glob "$self->{dir}/*";
    return;
}

sub dir { return $_[0]{dir} }

sub file { return "$_[0]{dir}/$_[1]" }

sub authority {
    my ($self, $name) = @_;
    $self->_openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=$name"
        . " -keyout $name.key -out $name.pem");
    return;
}

# Signed by an authority, for two days. Negative days: expired.
sub certificate {
    my ($self, $name, $authority, $days) = @_;
    $days //= 2;
    $self->_openssl("req -newkey rsa:2048 -nodes -subj /CN=$name -keyout $name.key"
        . " -out $name.csr");
    $self->_openssl("x509 -req -in $name.csr -CA $authority.pem -CAkey $authority.key"
        . " -CAcreateserial -days $days -extfile san -out $name.pem");
    return;
}

1;
