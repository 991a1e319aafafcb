<?php

// Debian's packages, and the application's own classes. The framework's autoloader does not look for pheanstalk.
require_once 'Illuminate/autoload.php';
require_once 'Pheanstalk/autoload.php';

spl_autoload_register(function (string $class): void {
    if (str_starts_with($class, 'App\\')) {
        require dirname(__DIR__).'/app/'.strtr(substr($class, 4), '\\', '/').'.php';
    }
});

$app = new Illuminate\Foundation\Application(dirname(__DIR__));
$app->singleton(Illuminate\Contracts\Console\Kernel::class, App\Console\Kernel::class);
$app->singleton(Illuminate\Contracts\Debug\ExceptionHandler::class, App\Exceptions\Handler::class);

return $app;
